// A panel: what to show, scales, zoom, download; drawn when it comes into view.
const DRAW = { lines: drawLines, spectrum: drawSpectrum, matrices: drawMatrices };

const save = (name, blob) => {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const csv = (rows) => {
  const cell = (x) => {
    const text = String(x);
    const safe = typeof x === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // no formulas
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return new Blob([rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n"], { type: "text/csv" });
};

// The drawing with its title and legend, as they stand on the page.
const picture = (panel, view) => {
  const source = view.canvas(), ratio = devicePixelRatio || 1, names = [...view.plot.querySelectorAll(".u-legend .u-series:not(.u-off):not([hidden]) th")].slice(1);
  const made = element("canvas"), ctx = made.getContext("2d");
  const perLine = Math.max(1, Math.floor(source.width / (170 * ratio)));
  const rows = Math.ceil(names.length / perLine);
  made.width = source.width;
  made.height = source.height + (34 + 18 * rows) * ratio;
  ctx.fillStyle = colour("panel");
  ctx.fillRect(0, 0, made.width, made.height);
  ctx.drawImage(source, 0, 30 * ratio);
  ctx.scale(ratio, ratio);
  ctx.fillStyle = colour("ink");
  ctx.font = "bold 14px system-ui";
  ctx.fillText(`${panel.title}: ${view.choice().name}`, 8, 20);
  ctx.font = "12px system-ui";
  names.forEach((name, i) => {
    const [x, y] = [8 + 170 * (i % perLine), source.height / ratio + 44 + 18 * Math.floor(i / perLine)];
    const marker = name.querySelector(".u-marker");
    ctx.fillStyle = marker ? getComputedStyle(marker).borderTopColor : colour("ink");
    ctx.fillRect(x, y - 6, 14, 3);
    ctx.fillStyle = colour("ink");
    ctx.fillText(name.textContent.slice(0, 22), x + 18, y);
  });
  return made;
};

const buildPanel = (panel, context) => {
  const own = { ...context, key: panel.key };
  const state = { logX: true, logY: Boolean(panel.choices[0].log), choice: 0 };
  const view = { choice: () => panel.choices[state.choice] };
  const heading = element("h3", { id: `title-${panel.key}` }, panel.title);
  view.plot = element("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${panel.title}; arrows move the cursor, plus and minus zoom, Home shows all` });
  view.hover = element("div", { class: panel.type === "lines" ? "hover" : "hover text" });
  view.key = element("div", { class: "hover key" });
  view.frames = element("div", { class: "tools" });
  let drawn = false;
  const draw = () => {
    drawn = true;
    DRAW[panel.type](view, view.choice(), own, state);
  };
  const redraw = () => { if (drawn) draw(); };
  const check = (text, key) => {
    const box = element("input", { type: "checkbox", checked: state[key], onchange: () => { state[key] = box.checked; redraw(); } });
    return [box, element("label", {}, box, text)];
  };
  const [, logX] = check("log epochs", "logX"), [yBox, logY] = check("log values", "logY");
  const tools = element("div", { class: "tools" });
  const select = element("select", { "aria-label": `what ${panel.title} shows`, onchange: () => {
    state.choice = Number(select.value);
    state.logY = yBox.checked = Boolean(view.choice().log);
    view.zoomed = false;
    redraw();
  } });
  const fill = () => {
    select.replaceChildren(...panel.choices.map((choice, i) => element("option", { value: String(i) }, choice.name)));
    select.hidden = panel.choices.length < 2;
  };
  fill();
  tools.append(select);
  if (panel.type !== "matrices") tools.append(logX);
  tools.append(logY);
  if (panel.type !== "matrices") tools.append(element("button", { type: "button", onclick: () => view.reset?.() }, "reset zoom"));
  tools.append(
    element("button", { type: "button", onclick: () => picture(panel, view).toBlob((blob) => save(`${panel.key}.png`, blob)) }, "PNG"),
    element("button", { type: "button", onclick: () => save(`${panel.key}.csv`, csv((panel.type === "lines" ? linesTable : framesTable)(view.choice(), own.array))) }, "CSV"),
  );
  const root = element("section", { class: "panel", "aria-labelledby": heading.id, "data-key": panel.key }, heading, tools, view.plot, view.key, view.frames, view.hover, element("p", { class: "caption" }, panel.caption));
  redraws.add(redraw);
  new ResizeObserver(() => { if (drawn && Math.abs((view.width ?? 0) - view.plot.clientWidth) > 2) { view.width = view.plot.clientWidth; draw(); } }).observe(view.plot);
  const update = (next, array) => {
    const name = view.choice().name;
    panel = next;
    own.array = array;
    state.choice = Math.max(0, panel.choices.findIndex((choice) => choice.name === name));
    fill();
    select.value = String(state.choice);
    redraw();
  };
  return { root, update, show: () => { if (!drawn) { view.width = view.plot.clientWidth; draw(); } }, context: own };
};
