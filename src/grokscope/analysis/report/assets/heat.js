// Heat maps on a canvas: cells with edges, a logarithmic or linear colour scale, and hover text.
const MARGIN = { left: 92, right: 12, top: 8, bottom: 48 };

const extent = (values, log) => {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (!Number.isFinite(v) || (log && v <= 0)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return [log ? 0.1 : 0, 1];
  if (log) low = Math.max(low, high * 1e-14); // what rounding leaves is not worth a colour
  return low === high ? [low, log ? low * 10 : low + 1] : [low, high];
};

// Edges between the places of cells, half way on the axis that is shown.
const edges = (places, log) => {
  const f = log ? Math.log : (x) => x, back = log ? Math.exp : (x) => x;
  const mid = places.slice(1).map((x, i) => back((f(x) + f(places[i])) / 2));
  const [first, last] = [places[0], places[places.length - 1]];
  const step = (a, b) => back(2 * f(a) - f(b));
  const ends = places.length > 1 ? [step(first, mid[0]), step(last, mid[mid.length - 1])] : log ? [first / 2, first * 2] : [first - 0.5, first + 0.5];
  return [ends[0], ...mid, ends[1]];
};

const scaler = (cuts, log, from, to) => {
  const f = log ? Math.log : (x) => x;
  const [low, high] = [f(cuts[0]), f(cuts[cuts.length - 1])];
  return (x) => from + ((f(x) - low) / (high - low)) * (to - from);
};

const ticksOf = (cuts, log, count) => {
  const [low, high] = [cuts[0], cuts[cuts.length - 1]];
  if (log) return logTicks(low, high);
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(v);
  return found;
};

// map: {xs, ys, at(i, j), logX, logY, log, xName, yName, xText, yText, xTicks, yTicks, flip}
const drawHeat = (view, map) => {
  const width = view.plot.clientWidth || 600, height = HEIGHT;
  const canvas = element("canvas", { role: "img", "aria-label": `${map.title}: heat map; the caption and the CSV file say what it holds` });
  const ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  const xCuts = edges(map.xs, map.logX).map((v) => (map.logX ? Math.max(v, 0.8 * FIRST) : v)), yCuts = edges(map.ys, map.logY);
  const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
  const x = scaler(xCuts, map.logX, MARGIN.left, width - MARGIN.right);
  const y = scaler(yCuts, map.logY, map.flip ? top : bottom, map.flip ? bottom : top);
  const all = [];
  for (let i = 0; i < map.xs.length; i++) for (let j = 0; j < map.ys.length; j++) all.push(map.at(i, j));
  const [low, high] = map.range ?? extent(all, map.log);
  const share = map.log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  for (let i = 0; i < map.xs.length; i++) {
    const [left, right] = [x(xCuts[i]), x(xCuts[i + 1])];
    for (let j = 0; j < map.ys.length; j++) {
      const value = map.at(i, j);
      if (!Number.isFinite(value) || (map.log && value <= 0)) continue;
      const [a, b] = [y(yCuts[j]), y(yCuts[j + 1])].sort((p, q) => p - q);
      ctx.fillStyle = `rgb(${scaleColour(share(value)).join(",")})`;
      ctx.fillRect(left, a, right - left + 0.5, b - a + 0.5);
      if (map.labels) {
        ctx.fillStyle = share(value) > 0.5 ? "#000" : "#fff";
        ctx.font = "12px system-ui";
        ctx.textAlign = "center";
        ctx.fillText(map.labels[value]?.[0].toUpperCase() ?? "", (left + right) / 2, (a + b) / 2 + 4);
      }
    }
  }
  drawFrame(ctx, map, { x, y, xCuts, yCuts, width, height, bottom });
  drawKey(view, map, low, high);
  const cell = (cuts, scale, at) => {
    const ordered = cuts.map(scale);
    for (let i = 0; i + 1 < ordered.length; i++) {
      if (at >= Math.min(ordered[i], ordered[i + 1]) && at < Math.max(ordered[i], ordered[i + 1])) return i;
    }
    return null;
  };
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const i = cell(xCuts, x, event.clientX - box.left), j = cell(yCuts, y, event.clientY - box.top);
    view.hover.textContent = i === null || j === null ? "" :
      `${map.hoverText?.(i, j) ?? `${map.xName} ${map.xText(map.xs[i], i)}, ${map.yName} ${map.yText(map.ys[j], j)}`}: ${map.valueText ? map.valueText(map.at(i, j)) : asNumber(map.at(i, j))}`;
  });
  canvas.addEventListener("mouseleave", () => { view.hover.textContent = ""; });
  view.plot.prepend(canvas);
  return canvas;
};

// Names of layers differ at their ends.
const ending = (name, most) => (name.length > most ? `…${name.slice(1 - most)}` : name);

const drawFrame = (ctx, map, box) => {
  ctx.fillStyle = colour("soft");
  ctx.strokeStyle = colour("line");
  ctx.font = "12px system-ui";
  ctx.textAlign = "center";
  for (const v of map.xTicks ?? (map.logX ? epochTicks(box.xCuts[0], box.xCuts[box.xCuts.length - 1]) : ticksOf(box.xCuts, false, box.width / 90))) {
    ctx.fillText(map.xText(v, map.xs.indexOf(v)), box.x(v), box.bottom + 16);
  }
  ctx.fillText(map.xName, (MARGIN.left + box.width - MARGIN.right) / 2, box.height - 8);
  ctx.textAlign = "right";
  for (const v of map.yTicks ?? ticksOf(box.yCuts, map.logY, 6)) {
    ctx.fillText(ending(map.yText(v, map.ys.indexOf(v)), map.yName ? 10 : 14), MARGIN.left - 6, box.y(v) + 4);
  }
  ctx.save();
  ctx.translate(12, (MARGIN.top + box.bottom) / 2);
  ctx.rotate(-Math.PI / 2);
  ctx.textAlign = "center";
  ctx.fillText(map.yName, 0, 0);
  ctx.restore();
};

const drawKey = (view, map, low, high) => {
  if (map.labels) {
    view.key.replaceChildren(`Letters: ${map.labels.join(", ")}.`);
    return;
  }
  const strip = element("canvas", { width: 120, height: 10, role: "img", "aria-label": "colour scale" });
  const ctx = strip.getContext("2d");
  for (let i = 0; i < 120; i++) {
    ctx.fillStyle = `rgb(${scaleColour(i / 119).join(",")})`;
    ctx.fillRect(i, 0, 1, 10);
  }
  const text = map.valueText ?? asNumber;
  view.key.replaceChildren(`${map.unit}: ${text(low)} `, strip, ` ${text(high)}${map.log ? ", logarithmic" : ""}`);
};
