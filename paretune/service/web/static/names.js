// Shortens names so that those that differ stay different: as paretune/core/short_names.py.

// the part that all names begin with, by their first `most - 1` characters
function sharedParts(names, most) {
  const shared = new Map();
  for (const name of names) {
    const begin = name.slice(0, most - 1);
    const known = shared.get(begin) ?? name;
    let length = 0;
    while (length < known.length && length < name.length && known[length] === name[length]) length += 1;
    shared.set(begin, known.slice(0, length));
  }
  return shared;
}

const endCut = (name, _shared, most) => `${name.slice(0, most - 1)}…`;

function commonPartCut(name, shared, most) {
  const head = name.slice(0, Math.max(1, Math.floor((most - 2) / 3)));
  const rest = name.slice(Math.max(head.length, shared.get(name.slice(0, most - 1)).length - 1));
  const room = most - head.length - 1;
  return rest.length <= room ? `${head}…${rest}` : `${head}…${rest.slice(0, room - 1)}…`;
}

function middleCut(name, _shared, most) {
  const tail = Math.floor((most - 1) / 2);
  return `${name.slice(0, most - 1 - tail)}…${name.slice(name.length - tail)}`;
}

function numbered(name, number, most) {
  const end = `…${number}`;
  return name.slice(0, Math.max(most - end.length, 0)) + end;
}

export function shortened(names, most) {
  const found = new Map(names.filter((name) => name.length <= most).map((name) => [name, name]));
  let long = [...new Set(names)].filter((name) => name.length > most);
  const shared = sharedParts(long, most);
  for (const cut of [endCut, commonPartCut, middleCut]) {
    const tried = new Map(long.map((name) => [name, cut(name, shared, most)]));
    const counts = new Map();
    for (const short of [...found.values(), ...tried.values()]) counts.set(short, (counts.get(short) ?? 0) + 1);
    for (const [name, short] of tried) if (counts.get(short) === 1) found.set(name, short);
    long = long.filter((name) => !found.has(name));
  }
  const taken = new Set(found.values());
  const numbers = new Map(); // names that begin alike try the same texts: each goes on where the one before has found its own
  for (const name of long) {
    const begin = name.slice(0, Math.max(most - 2, 0));
    while (!found.has(name)) {
      numbers.set(begin, (numbers.get(begin) ?? 0) + 1);
      const short = numbered(name, numbers.get(begin), most);
      if (!taken.has(short)) {
        taken.add(short);
        found.set(name, short);
      }
    }
  }
  return names.map((name) => found.get(name));
}
