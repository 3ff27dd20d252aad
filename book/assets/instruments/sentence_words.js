// The words of chapter 14: their numbers for the network, and what a sentence says, attribute by attribute.

export const MAX_WORDS = 24;
export const VOCABULARY = `a alone an and at azure before behind big blue by cottage crimson day daylight during dusk emerald evening
  facing fir firs from front golden green high home house huge in large left light little looking low no nothing on one purple red
  right seen small snowy standing sun sunlight sunset the three tiny to tree trees turned two us viewer violet white with without
  yellow`.split(/\s+/);

const NOUNS = "house|cottage|home";
const COLORS = { red: ["red", "crimson"], yellow: ["yellow", "golden"], green: ["green", "emerald"], blue: ["blue", "azure"],
  purple: ["purple", "violet"], white: ["white", "snowy"] };
const second = ([color, other]) => [`with a ${color} house behind`, ...["with an? C N behind", "before an? C N", "and an? C N behind"]
  .map((pattern) => pattern.replace("C", `(?:${color}|${other})`).replace("N", `(?:${NOUNS})`))];

/** What can be said, in the order in which it is looked for: {attribute: {value: ways to say it}}, the first of them plain. */
export const ATTRIBUTES = {
  behind: { none: ["standing alone", "with nothing behind", "alone"],
    ...Object.fromEntries(Object.entries(COLORS).map(([color, words]) => [color, second(words)])) },
  turn: { left: ["turned to the left", "facing left", "looking left"], front: ["seen from the front", "facing us", "facing the viewer"],
    right: ["turned to the right", "facing right", "looking right"] },
  color: COLORS,
  size: { small: ["small", "little", "tiny"], large: ["large", "big", "huge"] },
  trees: { none: ["no trees", "without trees", "no firs"], one: ["one tree", "a tree", "a fir"], two: ["two trees", "two firs"],
    three: ["three trees", "three firs"] },
  side: { left: ["left"], right: ["right"] },
  height: { low: ["low"], high: ["high"] },
  time: { day: ["by day", "in daylight", "during the day"], dusk: ["at dusk", "at sunset", "in the evening"] },
};

/** The words of a sentence; capitals, commas and stops do not count. */
export const split = (text) => text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "").split(/\s+/).filter(Boolean);

/** The words of a sentence and their numbers, 0 after the last; or, as `fault`, one sentence on why there are none. */
export function tokens(text) {
  const words = split(text), unknown = [...new Set(words)].filter((word) => !VOCABULARY.includes(word));
  const names = unknown.slice(0, 5).map((word) => `“${word.slice(0, 20)}”`).join(", ").replace(/, (?=[^,]*$)/, " and ");
  const numbers = Array.from({ length: MAX_WORDS }, (_, k) => VOCABULARY.indexOf(words[k]) + 1);
  if (names) return { fault: `The network does not know ${names}; the buttons have words that it knows.` };
  if (words.length > MAX_WORDS) return { fault: `A sentence has at most ${MAX_WORDS} words, and this one has ${words.length}.` };
  return { words, numbers };
}

/** What a sentence says: {attribute: [value, words]}, and its noun. */
export function read(text) {
  let rest = split(text).join(" ");
  const told = {};
  const take = (name, value, pattern) => {
    const found = !told[name] && rest.match(new RegExp(`\\b(?:${pattern})\\b`));
    if (!found) return;
    told[name] = [value, found[0]];
    rest = rest.replace(found[0], "|"); // what is said is not looked at again
  };
  for (const [name, values] of Object.entries(ATTRIBUTES))
    for (const [value, ways] of Object.entries(values)) take(name, value, ways.join("|"));
  take("noun", "", NOUNS);
  return told;
}

/** A sentence that says this. */
export function write(told) {
  const say = (name, other = "") => told[name]?.[1] ?? other;
  const house = ["noun", "size", "color", "turn", "behind"].some((name) => told[name]);
  const sun = [told.height && say("height"), told.side && `on the ${say("side")}`].filter(Boolean);
  const parts = [house ? ["a", say("size"), say("color"), say("noun", "house"), say("turn"), say("behind")] : [], [say("trees")],
    sun.length ? ["the sun", ...sun] : [], [say("time")]];
  return parts.map((part) => part.filter(Boolean).join(" ")).filter(Boolean).join(", ").replace(/\ba (?=[ae])/g, "an ");
}

/** The sentence after a value is picked; the one that it says is taken back. */
export function pick(text, name, value) {
  const { [name]: before, ...told } = read(text);
  return write(before?.[0] === value ? told : { ...told, [name]: [value, ATTRIBUTES[name][value][0]] });
}

/** How a sentence differs from the one before, in words; nothing if it does not. */
export function change(before, after) {
  const [a, b] = [before, after].map(split), quote = (words) => `“${words.join(" ")}”`;
  while (a.length && a[0] === b[0]) [a, b].forEach((words) => words.shift());
  while (a.length && a.at(-1) === b.at(-1)) [a, b].forEach((words) => words.pop());
  if (a.length > 5 || b.length > 5) return "another sentence";
  if (a.length && b.length) return `${quote(b)} in place of ${quote(a)}`;
  return a.length ? `without ${quote(a)}` : b.length ? `with ${quote(b)}` : "";
}
