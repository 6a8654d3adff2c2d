// Tables whose columns sort: numbers by value, also those within text; what is missing last.
const compare = (a, b, sign) => {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  return sign * (typeof a === "number" ? a - b : compareText(String(a), String(b)));
};

const NUMBERS = /(\d+(?:\.\d+)?(?:e[+-]?\d+)?)/;

const compareText = (a, b) => {
  const [left, right] = [a.split(NUMBERS), b.split(NUMBERS)]; // text and numbers take turns
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const order = i % 2 ? Number(left[i]) - Number(right[i]) : left[i].localeCompare(right[i]);
    if (order) return order;
  }
  return left.length - right.length;
};

const buildTable = (table) => {
  const body = element("tbody");
  let sorted = { column: -1, sign: 1 };
  const fill = () => {
    const rows = [...table.rows];
    if (sorted.column >= 0) rows.sort((a, b) => compare(a[sorted.column], b[sorted.column], sorted.sign));
    body.replaceChildren(...rows.map((row) => element("tr", {}, ...row.map((value) => {
      const text = value === null ? "–" : typeof value === "number" ? (Number.isInteger(value) ? thousands(value) : asNumber(value)) : value;
      return element("td", { class: typeof value === "number" ? "number" : "text", title: text }, text);
    }))));
  };
  const heads = table.columns.map((name, column) => {
    const head = element("th", { scope: "col", "aria-sort": "none" });
    head.append(element("button", { type: "button", onclick: () => {
      sorted = { column, sign: sorted.column === column ? -sorted.sign : 1 };
      heads.forEach((h, i) => h.setAttribute("aria-sort", i === column ? (sorted.sign > 0 ? "ascending" : "descending") : "none"));
      fill();
    } }, name));
    return head;
  });
  fill();
  const caption = element("p", { class: "caption" }, table.caption);
  const button = element("button", { type: "button", onclick: () => save(`${table.key}.csv`, csv([table.columns, ...table.rows.map((row) => row.map((x) => x ?? ""))])) }, "CSV");
  return element("section", { class: "panel", "data-key": table.key }, element("h3", {}, table.title), element("div", { class: "tools" }, button),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": table.title }, element("table", { class: "rows" }, element("thead", {}, element("tr", {}, ...heads)), body)), caption);
};
