// The document of the page, its packed arrays, and numbers as text.
const readDocument = () => JSON.parse(document.getElementById("data").textContent);

// Arrays are unpacked when they are first drawn: base64 of little-endian int32 or float32.
const arrayReader = (packed) => {
  const found = new Map();
  return (index) => {
    if (!found.has(index)) {
      const [type, text] = packed[index];
      const raw = atob(text);
      const bytes = new Uint8Array(raw.length);
      for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
      found.set(index, new (type === "i" ? Int32Array : Float32Array)(bytes.buffer));
    }
    return found.get(index);
  };
};

const FIRST = 0.5; // where a log axis shows epoch 0

const thousands = (x) => Math.round(x).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ",");
const asEpoch = (x) => (x == null ? "–" : x < 1 ? "0" : thousands(x));
const asNumber = (x) => {
  if (x == null || Number.isNaN(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-3) return x.toExponential(2);
  return String(Number(x.toPrecision(4)));
};

const asTick = (x) => (x === 0 || (Math.abs(x) < 1e5 && Math.abs(x) >= 1e-3) ? String(Number(x.toPrecision(6))) : x.toExponential().replace("+", ""));

// Powers of ten, thinned to a dozen; 2 and 5 between them where there are few.
const logTicks = (low, high) => {
  if (!(low > 0) || !Number.isFinite(high)) return [low, high];
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const steps = to - from <= 2 ? [1, 2, 5] : [1], skip = Math.max(1, Math.ceil((to - from) / 12));
  const found = [];
  for (let e = from; e <= to; e += skip) for (const m of steps) found.push(Number(`${m}e${e}`));
  const inside = found.filter((v) => v >= low && v <= high);
  return inside.length ? inside : [low, high];
};

// Of epochs: none below 1 but the place of epoch 0.
const epochTicks = (low, high) => [...(low <= FIRST ? [FIRST] : []), ...logTicks(Math.max(low, 1), high)];

// Elements from names, attributes and text. Text is never parsed as HTML.
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};
