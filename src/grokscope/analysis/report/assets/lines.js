// Curves over epochs, by uPlot.
const HEIGHT = 300;

// Where a log axis shows time 0: epochs at a half, other units at half of the first later time.
const zeroOf = (choice, array) => {
  if (!choice.time) return FIRST;
  const firsts = choice.series.map((series) => array(series.epochs).find((t) => t > 0) ?? 1);
  return Math.min(...firsts, 1) / 2;
};

const curve = (series, array, logX, logY, zero) => {
  const xs = array(series.epochs), ys = array(series.values);
  const x = [], y = [], low = [], high = [];
  for (let i = 0; i < xs.length; i++) {
    if (logY && !(ys[i] > 0)) continue;
    x.push(logX ? Math.max(xs[i], zero) : xs[i]);
    y.push(Number.isFinite(ys[i]) ? ys[i] : null);
    if (series.low !== undefined) {
      const ends = [array(series.low)[i], array(series.high)[i]];
      low.push(logY && !(ends[0] > 0) ? y[y.length - 1] : ends[0]);
      high.push(ends[1]);
    }
  }
  return series.low === undefined ? [x, y] : [x, y, low, high];
};

// Curves have rows of their own, so the nearest one that has a value answers for the cursor.
const nearest = (u, index, at) => {
  const ys = u.data[index];
  if (index === 0 || at == null || ys[at] != null) return at;
  for (let step = 1; step < ys.length; step++) {
    if (ys[at - step] != null) return at - step;
    if (ys[at + step] != null) return at + step;
  }
  return at;
};

const padded = (log) => (u, low, high) => {
  if (low == null) return log ? [0.1, 1] : [0, 1];
  if (log) return [low / 1.3, high * 1.3];
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  return [low - room, high + room];
};

const axis = (label, text, size, ticks) => ({
  label, size, stroke: colour("soft"), labelSize: 22, font: "12px system-ui", labelFont: "12px system-ui",
  grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("line"), width: 1 },
  values: (u, splits) => splits.map(text),
  ...(ticks ? { splits: (u, side, low, high) => ticks(low, high), filter: (u, splits) => splits } : {}),
});

const momentLines = (moments, logX) => (u) => {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const [epoch, role] of [[moments.memorised, "train"], [moments.generalised, "test"]]) {
    if (epoch == null) continue;
    const x = u.valToPos(logX ? Math.max(epoch, FIRST) : epoch, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(role);
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
};

const aligned = (curves) => {
  const tables = curves.flatMap(([x, ...columns]) => columns.map((column) => [x, column]));
  return uPlot.join(tables);
};

const withAlpha = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, "0");

const lineOptions = (choice, context, logX, logY, width) => {
  const xText = choice.time ? asNumber : context.xText ?? asEpoch;
  const moments = choice.time ? { generalised: 1 } : context.moments;
  const series = [{ label: choice.time ? "time" : context.xName ?? "epoch", value: (u, v) => xText(v) }];
  const bands = [], paths = choice.steps ? uPlot.paths.stepped({ align: 1 }) : undefined;
  let part = 0;
  for (const each of choice.series) {
    const style = { ...styleOf(each, each.role === "part" ? part++ : 0), paths };
    series.push({ label: each.name, ...style, spanGaps: true, points: { show: false }, value: (u, v) => asNumber(v) });
    if (each.low !== undefined) {
      const place = series.length;
      for (const end of ["low", "high"]) {
        series.push({ label: `${each.name}, ${end}`, of: place - 1, paths, stroke: withAlpha(style.stroke, 0.35), width: 0.5, spanGaps: true, points: { show: false }, value: (u, v) => asNumber(v) });
      }
      bands.push({ series: [place + 1, place], fill: withAlpha(style.stroke, 0.15) });
    }
  }
  return {
    width, height: HEIGHT, series, bands,
    scales: {
      x: { time: false, distr: logX ? 3 : 1, range: (u, low, high) => (low == null ? [1, 10] : low === high ? [low * 0.9, high * 1.1 + 1] : [low, high]) },
      y: { distr: logY ? 3 : 1, range: padded(logY) },
    },
    axes: [
      axis(choice.time || (context.xLabel ?? "epoch (passes over the training set)"), xText, 44, logX && (xText === asEpoch ? epochTicks : logTicks)),
      axis(choice.unit, asTick, 72, logY && logTicks),
    ],
    cursor: { drag: { x: true, y: false, dist: 4 }, sync: { key: choice.time || (context.sync ?? "epochs"), setSeries: false }, dataIdx: nearest, focus: { prox: 24 } },
    legend: { live: true, markers: { dash: (u, i) => (u.series[i].dash?.length ? "dashed" : "solid") } },
    hooks: { draw: [momentLines(moments, logX)], setSeries: [endsFollow] },
  };
};

// The ends of a band come and go with its curve.
const endsFollow = (u, index, options) => {
  if (index == null || options.show === undefined) return;
  u.series.forEach((series, end) => {
    if (series.of === index && series.show !== options.show) u.setSeries(end, { show: options.show });
  });
};

// Legends are worked by keyboard too; the ends of bands have no row of their own.
const reachableLegend = (u) => {
  u.root.querySelectorAll(".u-legend .u-series").forEach((row, index) => {
    const name = row.querySelector("th");
    row.hidden = u.series[index]?.of !== undefined;
    if (index === 0 || !name) return;
    name.tabIndex = 0;
    name.setAttribute("aria-label", `${name.textContent}: show or hide`);
    name.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        name.click();
      }
    });
  });
};

// Arrows move the cursor, + and - zoom around it, Home shows all.
const keyboard = (view, u, reset) => (event) => {
  if (event.target !== event.currentTarget) return;
  const place = u.cursor.left >= 0 ? u.cursor.left : u.over.clientWidth / 2;
  const actions = {
    ArrowLeft: () => u.setCursor({ left: Math.max(0, place - 5), top: u.over.clientHeight / 2 }),
    ArrowRight: () => u.setCursor({ left: Math.min(u.over.clientWidth, place + 5), top: u.over.clientHeight / 2 }),
    "+": () => zoomBy(view, u, place, 0.5),
    "-": () => zoomBy(view, u, place, 2),
    Home: reset,
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
};

// Within the data, and not closer than a millionth of them.
const zoomBy = (view, u, at, factor) => {
  const times = u.data[0], [first, last] = [times[0], times[times.length - 1]];
  const min = Math.max(first, u.posToVal(at - at * factor, "x"));
  const max = Math.min(last, u.posToVal(at + (u.over.clientWidth - at) * factor, "x"));
  if (!(max - min > 1e-6 * (last - first))) return;
  view.zoomed = min > first || max < last;
  u.setScale("x", { min, max });
};

const drawLines = (view, choice, context, state) => {
  const zero = zeroOf(choice, context.array);
  const curves = choice.series.map((series) => curve(series, context.array, state.logX, state.logY, zero));
  const data = curves.length ? aligned(curves) : [[]];
  const zoom = view.chart && view.zoomed ? { ...view.chart.scales.x } : null;
  const hidden = new Set((view.chart?.series ?? []).filter((series) => !series.show).map((series) => series.label));
  view.chart?.destroy();
  view.plot.replaceChildren();
  const options = lineOptions(choice, context, state.logX, state.logY, view.plot.clientWidth || 600);
  for (const series of options.series) if (hidden.has(series.label)) series.show = false;
  options.hooks.setSelect = [() => { view.zoomed = true; }];
  const chart = new uPlot(options, data, view.plot);
  const reset = () => {
    view.zoomed = false;
    chart.setData(data, true);
  };
  if (zoom) chart.setScale("x", { min: state.logX ? Math.max(zoom.min, zero) : zoom.min, max: zoom.max });
  chart.over.addEventListener("dblclick", () => { view.zoomed = false; });
  reachableLegend(chart);
  view.plot.onkeydown = keyboard(view, chart, reset);
  Object.assign(view, { chart, reset, canvas: () => chart.ctx.canvas });
};

const linesTable = (choice, array) => {
  const rows = [["series", "epoch", "value", "low", "high"]];
  for (const series of choice.series) {
    const epochs = array(series.epochs), values = array(series.values);
    epochs.forEach((epoch, i) => {
      const ends = series.low === undefined ? ["", ""] : [array(series.low)[i], array(series.high)[i]];
      rows.push([series.name, epoch, values[i], ...ends]);
    });
  }
  return rows;
};
