// The page: summary, sections of panels and tables, and the live connection.
const facts = (rows) => element("table", { class: "facts" }, element("tbody", {}, ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))));

const anchor = (name) => `section-${name.toLowerCase().replace(/[^a-z]+/g, "-")}`;

const start = () => {
  let page = readDocument();
  applyTheme();
  const context = { array: arrayReader(page.arrays), moments: page.moments };
  const title = document.getElementById("title"), verdict = document.getElementById("verdict");
  const nav = document.getElementById("nav"), main = document.getElementById("main");
  const state = nav.appendChild(element("span", { role: "status", id: "live" }));
  const built = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) built.get(entry.target.dataset.key)?.show();
  }, { rootMargin: "400px" });

  const header = () => {
    document.title = page.title;
    title.textContent = page.title;
    verdict.textContent = page.verdict;
    document.getElementById("facts").replaceChildren(...page.facts.map(({ title: name, rows, open }) =>
      element("details", { open: Boolean(open) }, element("summary", {}, name), facts(rows))));
  };

  const sections = new Map();
  const grid = (name) => {
    if (!sections.has(name)) {
      const inside = element("div", { class: "grid" });
      main.append(element("section", { id: anchor(name), "aria-label": name }, element("h2", {}, name), inside));
      nav.insertBefore(element("a", { href: `#${anchor(name)}` }, name), nav.querySelector("button"));
      sections.set(name, inside);
    }
    return sections.get(name);
  };

  const fill = () => {
    for (const panel of page.panels) {
      const known = built.get(panel.key);
      if (known) {
        known.context.moments = page.moments;
        known.update(panel, context.array);
        continue;
      }
      const made = buildPanel(panel, context);
      built.set(panel.key, made);
      grid(panel.section).append(made.root);
      watcher.observe(made.root);
    }
    for (const table of page.tables) {
      const made = buildTable(table), old = grid(table.section).querySelector(`[data-key="${CSS.escape(table.key)}"]`);
      if (old) old.replaceWith(made);
      else grid(table.section).append(made);
    }
  };

  nav.insertBefore(themeButton(), state);
  header();
  fill();
  document.getElementById("stamp").textContent = page.stamp;
  addEventListener("beforeprint", () => { for (const panel of built.values()) panel.show(); });
  const first = [...built.values()].slice(0, 2);
  for (const panel of first) panel.show();
  document.documentElement.dataset.ready = "true";
  if (page.live) follow();

  function follow() {
    let tag = null;
    const ask = async () => {
      try {
        const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
        if (answer.status === 200) {
          tag = answer.headers.get("ETag");
          page = await answer.json();
          context.array = arrayReader(page.arrays);
          header();
          fill();
          document.getElementById("stamp").textContent = page.stamp;
        }
        if (answer.status >= 400) throw new Error(await answer.text());
        state.textContent = page.running ? `live: ${page.progress}` : `ended: ${page.progress}`;
      } catch (error) {
        state.textContent = error instanceof TypeError ? "the server does not answer" : error.message;
      }
      setTimeout(ask, 1000);
    };
    ask();
  }
};

start();
