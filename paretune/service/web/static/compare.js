// Runs side by side: the curves of all in one plot a metric.

import { Board, Columns, colours, fetched, polled } from "./curves.js";

const page = JSON.parse(document.getElementById("page").textContent);
const board = new Board(document.getElementById("curves"));
board.runs = page.runs.map(({ name }) => ({ name, columns: new Columns() }));

// the colours, told once
const legend = document.getElementById("legend");
const paint = () => legend.querySelectorAll("i").forEach((mark, place) => (mark.style.background = colours()[place % colours().length]));
for (const { name, here } of page.runs) {
  const link = document.createElement("a");
  link.href = here;
  link.append(document.createElement("i"), name);
  legend.append(link);
}
paint();
addEventListener("theme", paint);

const live = page.runs.map(() => true);

polled(5, async () => {
  let changed = false;
  await Promise.all(
    page.runs.map(async ({ here }, place) => {
      if (!live[place]) return;
      const { columns } = board.runs[place];
      const before = columns.next;
      const answer = await fetched(`${here}/history.json?after=${columns.isLong ? 0 : before}`);
      columns.add(answer);
      changed ||= columns.next !== before;
      live[place] = answer.live;
    }),
  );
  if (changed || !board.keys) board.draw();
  return live.some(Boolean);
});
