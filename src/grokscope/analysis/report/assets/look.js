// Colours by theme, dashes that tell parts apart without colour, and the colour scale of heat maps.
const THEMES = ["auto", "light", "dark"];
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const redraws = new Set();

const stored = (value) => {
  try {
    if (value !== undefined) localStorage.setItem("theme", value);
    return localStorage.getItem("theme");
  } catch {
    return null; // pages from disk may have no storage
  }
};

let theme = THEMES.includes(stored()) ? stored() : "auto";

const applyTheme = () => {
  const dark = theme === "dark" || (theme === "auto" && darkSystem.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  for (const redraw of redraws) redraw();
};

darkSystem.addEventListener("change", applyTheme);

const themeButton = () => {
  const label = () => `theme: ${theme}`;
  const button = element("button", {
    type: "button",
    onclick: () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      stored(theme);
      button.textContent = label();
      applyTheme();
    },
  }, label());
  return button;
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const PARTS = 5;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];

const styleOf = (series, part) => {
  const own = series.theory ? "whole" : series.role === "part" ? `p${part % PARTS}` : series.role;
  const dash = series.theory ? (series.role === "test" ? [5, 5] : [1, 4]) : series.role === "part" ? DASHES[Math.floor(part / PARTS) % DASHES.length] : [];
  return { stroke: colour(own), dash, width: series.role === "whole" ? 2.4 : 1.6 };
};

// Viridis (van der Walt and Smith 2015, CC0) at ten places.
const SCALE = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37],
];

const scaleColour = (share) => {
  const place = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
  const low = Math.min(Math.floor(place), SCALE.length - 2);
  return SCALE[low].map((c, i) => Math.round(c + (place - low) * (SCALE[low + 1][i] - c)));
};
