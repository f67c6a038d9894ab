// Shortens names so that those that differ stay different: as paretune/core/short_names.py.

function commonLength(name, others) {
  let length = 0;
  while (length < name.length && others.every((other) => other[length] === name[length])) length += 1;
  return length;
}

const endCut = (name, _others, most) => `${name.slice(0, most - 1)}…`;

function commonPartCut(name, others, most) {
  const head = name.slice(0, Math.max(1, Math.floor((most - 2) / 3)));
  const rivals = others.filter((other) => other.startsWith(name.slice(0, most - 1)));
  const rest = name.slice(Math.max(head.length, commonLength(name, rivals) - 1));
  const room = most - head.length - 1;
  return rest.length <= room ? `${head}…${rest}` : `${head}…${rest.slice(0, room - 1)}…`;
}

function middleCut(name, _others, most) {
  const tail = Math.floor((most - 1) / 2);
  return `${name.slice(0, most - 1 - tail)}…${name.slice(name.length - tail)}`;
}

function numbered(name, most, taken) {
  for (let number = 1; ; number += 1) {
    const end = `…${number}`;
    const short = name.slice(0, Math.max(most - end.length, 0)) + end;
    if (!taken.has(short)) return short;
  }
}

export function shortened(names, most) {
  const found = new Map(names.filter((name) => name.length <= most).map((name) => [name, name]));
  let long = [...new Set(names)].filter((name) => name.length > most);
  for (const cut of [endCut, commonPartCut, middleCut]) {
    const tried = new Map(long.map((name) => [name, cut(name, long, most)]));
    const counts = new Map();
    for (const short of [...found.values(), ...tried.values()]) counts.set(short, (counts.get(short) ?? 0) + 1);
    for (const [name, short] of tried) if (counts.get(short) === 1) found.set(name, short);
    long = long.filter((name) => !found.has(name));
  }
  for (const name of long) found.set(name, numbered(name, most, new Set(found.values())));
  return names.map((name) => found.get(name));
}
