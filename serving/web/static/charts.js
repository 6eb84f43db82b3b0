// Lines over time: a canvas (uPlot, loaded when the first chart is shown), a legend, and the same figures as a table, which a
// screen reader reads and everybody may open.

import { el, svg } from "./dom.js";
import { T } from "./texts.js";

const HEIGHT = 190;
// The order in which lines are told apart: by colour, and by dash for who does not see colours.
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 5]];
// Rows of a table: a longer one nobody reads; the newest are kept.
const TABLE_ROWS = 60;
let library = null;

function loaded(node) {
  return new Promise((done, failed) => {
    node.addEventListener("load", done);
    node.addEventListener("error", failed);
    document.head.append(node);
  });
}

// The styles of a screen that few open.
export const style = (name) => (document.querySelector(`link[href="/static/${name}"]`) ? Promise.resolve()
  : loaded(el("link", { rel: "stylesheet", href: `/static/${name}` })));

function uplot() {
  library ??= Promise.all([style("uPlot.min.css"), loaded(el("script", { src: "/static/uPlot.iife.min.js" }))])
    .then(() => globalThis.uPlot)
    .catch((error) => {
      library = null;
      throw error;
    });
  return library;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

// A chart's place. draw({times, series}): times in s, series: [{label, values}], null where there is none. shown: a value as
// text; when: a time as text.
export function lineChart({ id, title, shown, axis = shown, when = clock }) {
  const plot = el("div", { class: "plot", role: "img" });
  const legend = el("ul", { class: "legend", "aria-hidden": "true" });
  const table = el("table", { class: "board figures", "aria-label": title });
  const node = el("figure", { class: "chart", id }, el("figcaption", {}, el("h3", { text: title })), plot, legend,
    el("details", {}, el("summary", { text: T.insights.table }), el("div", { class: "scroll", tabindex: "0", role: "region",
      "aria-label": title }, table)));
  let chart = null;
  let drawn = null;
  let gone = false;

  async function draw(data) {
    drawn = data;
    const { times, series } = data;
    plot.setAttribute("aria-label", T.insights.chart(title, series.map(({ label, values }) =>
      `${label} ${shown(values.findLast((value) => value !== null && value !== undefined) ?? null)}`)));
    plot.classList.toggle("bare", times.length < 2);
    legend.replaceChildren(...series.map(({ label }, place) => el("li", {}, sample(place), label)));
    tabulate(times, series);
    const UPlot = await uplot();
    if (gone || drawn !== data) return;
    if (chart && chart.series.length === series.length + 1) chart.setData([times, ...series.map(({ values }) => values)]);
    else make(UPlot, times, series);
  }

  function make(UPlot, times, series) {
    if (chart) chart.destroy();
    const line = { stroke: () => colour("--muted"), grid: { stroke: () => colour("--rule"), width: 1 },
      ticks: { stroke: () => colour("--rule"), width: 1 }, font: "12px system-ui, sans-serif" };
    chart = new UPlot({
      width: plot.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_chart, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.08] } },
      axes: [{ ...line, values: (_chart, splits) => splits.map(when) },
        { ...line, size: 62, values: (_chart, splits) => splits.map((value) => axis(value)) }],
      series: [{}, ...series.map((_one, place) => ({ stroke: () => colour(`--line-${place % DASHES.length}`), width: 2.5,
        dash: DASHES[place % DASHES.length], spanGaps: false, points: { show: times.length < 3 } }))],
    }, [times, ...series.map(({ values }) => values)], plot);
  }

  function tabulate(times, series) {
    const from = Math.max(0, times.length - TABLE_ROWS);
    table.replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: T.insights.time }),
        series.map(({ label }) => el("th", { scope: "col", class: "number", text: label })))),
      el("tbody", {}, times.slice(from).map((time, place) => el("tr", {}, el("th", { scope: "row", text: when(time) }),
        series.map(({ values }) => el("td", { class: "number", text: shown(values[from + place]) })))).reverse()));
  }

  const resized = new ResizeObserver(() => {
    if (chart && plot.clientWidth) chart.setSize({ width: plot.clientWidth, height: HEIGHT });
  });
  resized.observe(plot);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => chart && chart.redraw(false);
  scheme.addEventListener("change", recolour);

  return { node, draw, leave() {
    gone = true;
    resized.disconnect();
    scheme.removeEventListener("change", recolour);
    if (chart) chart.destroy();
  } };
}

// A piece of a line as the chart draws it.
function sample(place) {
  const at = place % DASHES.length;
  return svg("svg", { class: `sample line-${at}`, width: 26, height: 10, viewBox: "0 0 26 10" },
    svg("line", { x1: 0, y1: 5, x2: 26, y2: 5, "stroke-width": 3, "stroke-dasharray": DASHES[at].join(" ") || null }));
}

// Rows with a bar each: [{key, name, value, share (0 … 1), text, note, from, to}]; from and to (0 … 1) mark bounds.
export function bars(rows, id) {
  return el("ol", { class: "bars", id }, rows.map((row) => {
    const track = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", x: 0, y: 0, width: 100, height: 10, rx: 0 }),
      svg("rect", { class: "fill", x: 0, y: 0, width: Math.max(0.6, 100 * row.share), height: 10 }),
      row.to === undefined ? null : svg("rect", { class: "bound", x: 100 * row.from, y: 0,
        width: Math.max(0.8, 100 * (row.to - row.from)), height: 10 }));
    return el("li", { "data-key": row.key }, el("span", { class: "head" }, el("span", { class: "name", text: row.name }),
      el("strong", { class: "value", text: row.text })), track, row.note ? el("span", { class: "hint", text: row.note }) : null);
  }));
}
