// Spectra and matrices: heat maps, with a slider over epochs.
// Made once, so that new rows take away neither the focus nor the hand that drags it.
const slider = (view, epochs, place, show) => {
  const say = (i) => {
    view.told.textContent = `epoch ${asEpoch(epochs[i])}`;
    view.slider.setAttribute("aria-valuetext", view.told.textContent);
  };
  if (!view.slider) {
    view.told = element("output");
    view.slider = element("input", { type: "range", min: "0", step: "1", "aria-label": "epoch" });
    view.frames.replaceChildren(element("label", {}, "epoch ", view.slider), view.told);
  }
  view.slider.max = String(epochs.length - 1);
  view.slider.value = String(place);
  view.slider.oninput = () => {
    say(Number(view.slider.value));
    show(Number(view.slider.value));
  };
  view.frames.hidden = epochs.length < 2;
  say(place);
};

const positive = (x, log) => (log ? Math.max(x, FIRST) : x);

const drawSpectrum = (view, choice, context, state) => {
  const epochs = Array.from(context.array(choice.epochs)), flat = context.array(choice.values), k = choice.width;
  const orders = Array.from({ length: k }, (_, i) => i + 1);
  view.chart?.destroy();
  view.plot.replaceChildren();
  const heat = drawHeat(view, {
    title: choice.name, unit: choice.unit, xs: epochs.map((e) => positive(e, state.logX)), ys: orders,
    at: (i, j) => flat[i * k + j], logX: state.logX, logY: choice.log, log: state.logY,
    xName: "epoch", yName: choice.axis, xText: asEpoch, yText: (v) => String(Math.round(v)),
  });
  const below = view.plot.appendChild(element("div", { class: "curve" }));
  const last = epochs.length - 1;
  const place = Math.min(view.place ?? last, last);
  const row = (i) => orders.map((_, j) => { const v = flat[i * k + j]; return Number.isFinite(v) && (!state.logY || v > 0) ? v : null; });
  const table = (i) => [orders, row(0), row(last), row(i)];
  const options = lineOptions({ unit: choice.unit, series: [{ name: "first row", role: "train" }, { name: "last row", role: "test" }, { name: "at the slider", role: "whole" }] },
    { moments: {}, xName: choice.axis, xLabel: `${choice.axis} (from 1)`, xText: (v) => (v == null ? "–" : String(Math.round(v))), sync: `order-${context.key}` }, choice.log, state.logY, view.plot.clientWidth || 600);
  const all = extent(flat, state.logY);
  options.scales.y.range = () => (state.logY ? [all[0] / 1.3, all[1] * 1.3] : all);
  const chart = new uPlot(options, table(place), below);
  reachableLegend(chart);
  slider(view, epochs, place, (i) => { view.place = i; chart.setData(table(i), false); chart.redraw(); });
  Object.assign(view, { chart, canvas: () => heat, reset: () => chart.setData(table(view.place ?? last), true) });
};

const drawMatrices = (view, choice, context, state) => {
  const epochs = Array.from(context.array(choice.epochs)), flat = context.array(choice.values);
  const [rows, columns] = [choice.rows, choice.columns], size = rows.length * columns.length;
  const range = choice.labels.length ? [0, choice.labels.length - 1] : extent(flat, state.logY), last = epochs.length - 1;
  const place = Math.min(view.place ?? last, last);
  const some = (names) => names.map((_, i) => i).filter((i) => i % Math.ceil(names.length / 14) === 0);
  const show = (frame) => {
    view.place = frame;
    view.plot.replaceChildren();
    const heat = drawHeat(view, {
      title: choice.name, unit: choice.unit, xs: columns.map((_, i) => i), ys: rows.map((_, i) => i), flip: true, range,
      at: (i, j) => flat[frame * size + j * columns.length + i], log: state.logY, labels: choice.labels.length ? choice.labels : null,
      xName: choice.axes[1], yName: choice.axes[0], xText: (v, i) => ending(columns[i] ?? "", columns.length > 8 ? 6 : 12), yText: (v, i) => rows[i] ?? "", xTicks: some(columns), yTicks: some(rows),
      hoverText: (i, j) => `${choice.axes[0] || "row"} ${rows[j]}, ${choice.axes[1] || "column"} ${columns[i]}`,
      valueText: choice.labels.length ? (v) => choice.labels[v] ?? "–" : undefined,
    });
    view.canvas = () => heat;
  };
  show(place);
  slider(view, epochs, place, show);
  view.reset = () => show(last);
};

const framesTable = (choice, array) => {
  const epochs = array(choice.epochs), flat = array(choice.values);
  if (choice.rows === undefined) {
    const rows = [["epoch", choice.axis, "value"]];
    epochs.forEach((e, i) => { for (let j = 0; j < choice.width; j++) rows.push([e, j + 1, flat[i * choice.width + j]]); });
    return rows;
  }
  const rows = [["epoch", "row", "column", "value"]], size = choice.rows.length * choice.columns.length;
  epochs.forEach((e, i) => choice.rows.forEach((r, a) => choice.columns.forEach((c, b) => rows.push([e, r, c, flat[i * size + a * choice.columns.length + b]]))));
  return rows;
};
