// What is played right now and how the pipeline stands, from the streams' windows over time. Asks again every ten seconds while
// it is seen. Its address carries what is shown: #/insights?minutes=…&kind=…

import { $, el, field, problem, show } from "./dom.js";
import { bars, lineChart, style } from "./charts.js";
import { call } from "./net.js";
import { T, number, shortMoment } from "./texts.js";

const AGAIN_MS = 10000;
const SPANS = [15, 30, 60, 120];
const KINDS = ["quizzes", "users"];
const PARTS = ["hot", "trending", "hardest", "pipeline"];
const seconds = (text) => Date.parse(text) / 1000;

// How the streams' figures stand, in words.
export function stateWords({ state, as_of: at }) {
  return at ? T.insights.states[state](shortMoment(at)) : T.insights.none;
}

// Lines of some measures on one axis of time: {times, series}. named: (measure, source) → its label.
export function joined(lines, wanted, named) {
  const chosen = lines.filter((line) => wanted.includes(line.measure));
  const times = [...new Set(chosen.flatMap((line) => line.points.map(([at]) => seconds(at))))].sort((a, b) => a - b);
  return { times, series: chosen.map((line) => {
    const values = new Map(line.points.map(([at, value]) => [seconds(at), value]));
    return { label: named(line.measure, line.source), values: times.map((time) => values.get(time) ?? null) };
  }) };
}

// The slower of a sink's shards: six lines nobody can tell apart.
function slowest(lines) {
  const bySink = new Map();
  for (const line of lines.filter((one) => one.measure === "relay_lag_seconds")) {
    const sink = line.source.split("/")[1];
    const points = bySink.get(sink) || new Map();
    for (const [at, value] of line.points) points.set(at, Math.max(value, points.get(at) ?? 0));
    bySink.set(sink, points);
  }
  return [...bySink].map(([source, points]) => ({ measure: "relay_lag_seconds", source, points: [...points] }));
}

export function insightsScreen(_argument, query, first) {
  const given = (name, options, otherwise) => (options.map(String).includes(query.get(name)) ? query.get(name) : otherwise);
  const select = (id, options, value, text) => el("select", { id, onchange: () => look() },
    options.map((one) => el("option", { value: one, text: text(one), selected: String(one) === String(value) })));
  const T_ = T.insights;
  const charts = {
    hot: lineChart({ id: "hot-lines", title: T_.overTime, shown: amount }),
    play: lineChart({ id: "play-lines", title: T_.play, shown: amount }),
    lag: lineChart({ id: "lag-lines", title: T_.lag, shown: T_.duration }),
    streams: lineChart({ id: "streams-lines", title: T_.streams, shown: T_.duration }),
    outbox: lineChart({ id: "outbox-lines", title: T_.outbox, shown: amount }),
    consumers: lineChart({ id: "consumers-lines", title: T_.consumers, shown: amount }),
  };
  const parts = Object.fromEntries(PARTS.map((name) => [name, el("div", { id: name })]));
  const told = el("p", { id: "state", class: "told", role: "status", text: T_.loading });
  const failed = el("div", { id: "failed", class: "error", role: "alert" });
  let timer = null;
  let looks = 0;

  const drawings = {
    hot(reply) {
      const most = Math.max(1, ...reply.entries.map((one) => one.amount));
      const rows = reply.entries.map((one) => ({ key: one.id, name: one.name || one.id, share: one.amount / most,
        text: T_.amounts[reply.measure](one.amount) }));
      parts.hot.replaceChildren(reply.window ? el("p", { class: "muted", text: T_.minute(shortMoment(reply.window.start)) }) : "",
        rows.length ? bars(rows, "hot-bars") : empty(), charts.hot.node);
      charts.hot.node.hidden = !rows.length;
      return charts.hot.draw({ times: reply.windows.map(seconds),
        series: reply.series.map((one) => ({ label: one.name || one.id, values: one.amounts })) });
    },
    trending(reply) {
      parts.trending.replaceChildren(reply.entries.length ? table(T_.trending, [T_.what, T_.before, T_.now, T_.gained],
        reply.entries.map((one) => [one.name || one.id, number(one.before), number(one.now), `+${number(one.gained)}`]))
        : el("p", { class: "empty", text: T_.nobodyGained }));
    },
    hardest(reply) {
      const most = Math.max(1, ...reply.entries.map((one) => one.upper));
      const rows = reply.entries.slice(0, 10).map((one) => ({ key: one.id, name: one.name || one.id, share: one.lower / most,
        from: one.lower / most, to: one.upper / most, text: number(one.estimate),
        note: T_.bounds(one.lower, one.upper, one.windows) }));
      parts.hardest.replaceChildren(rows.length ? bars(rows, "hardest-bars") : empty(), charts.play.node);
      charts.play.node.hidden = !rows.length;
      return charts.play.draw({ times: reply.play.windows.map(seconds), series: [
        { label: T_.answers, values: reply.play.answers }, { label: T_.missed, values: reply.play.missed }] });
    },
    pipeline(reply) {
      const rows = reply.latest.map((one) => [T_.measures[one.measure] || one.measure, one.source, shown(one)]);
      parts.pipeline.replaceChildren(
        rows.length ? el("div", { class: "lines" }, charts.lag.node, charts.streams.node, charts.outbox.node, charts.consumers.node)
          : el("p", { class: "empty", text: T_.noPipeline }),
        rows.length ? el("details", { id: "figures" }, el("summary", { text: T_.all }),
          table(T_.pipeline, [T_.what, T_.where, T_.value], rows, 1)) : "");
      const { lines } = reply;
      return Promise.all([
        charts.lag.draw(joined(slowest(lines), ["relay_lag_seconds"], (_m, sink) => T_.sinks[sink] || sink)),
        charts.streams.draw(joined(lines, ["streams_checkpoint_age_seconds", "streams_watermark_age_seconds"],
          (measure) => T_.measures[measure])),
        charts.outbox.draw(joined(lines, ["outbox_entries"], (_m, shard) => T_.shard(shard))),
        charts.consumers.draw(joined(lines, ["consumer_lag_records"], (_m, group) => group)),
      ]);
    },
  };

  async function look() {
    clearTimeout(timer);
    const mine = ++looks;
    const minutes = $("minutes").value;
    const kind = $("kind").value;
    history.replaceState(null, "", `#/insights?minutes=${minutes}&kind=${kind}`);
    const asked = await Promise.allSettled(PARTS.map((name) =>
      call(`/v1/insights/${name}?minutes=${minutes}${["hot", "trending"].includes(name) ? `&kind=${kind}` : ""}`)));
    if (mine !== looks) return;
    const good = asked.find((one) => one.status === "fulfilled");
    const bad = asked.find((one) => one.status === "rejected");
    failed.replaceChildren(...(bad ? [...problem(bad.reason), el("span", { text: T_.kept })] : []));
    if (good) {
      told.textContent = stateWords(good.value);
      told.classList.toggle("behind", good.value.state === "behind");
    }
    told.hidden = !good;
    await Promise.all(asked.map((one, place) => {
      parts[PARTS[place]].classList.toggle("old", one.status === "rejected");
      return one.status === "fulfilled" ? drawings[PARTS[place]](one.value) : null;
    }));
    if (mine === looks) timer = setTimeout(seen, AGAIN_MS);
  }

  // What nobody sees is not asked for.
  function seen() {
    if (document.hidden) document.addEventListener("visibilitychange", seen, { once: true });
    else look();
  }

  const card = (name, title, lead, whole) => el("section", { class: whole ? "card whole" : "card", "aria-labelledby": `${name}-title` },
    el("h2", { id: `${name}-title`, text: title }), el("p", { class: "muted", text: lead }), parts[name]);
  show([el("div", { class: "insights" },
    el("section", { class: "card whole" }, el("h1", { text: T_.title }), el("p", { class: "muted", text: T_.lead }),
      el("div", { class: "ask" },
        field(T_.span, select("minutes", SPANS, given("minutes", SPANS, 30), T_.lastMinutes)),
        field(T_.of, select("kind", KINDS, given("kind", KINDS, "quizzes"), (one) => T_.kinds[one]))),
      told, failed),
    card("hot", T_.hot, T_.hotLead), card("trending", T_.trending, T_.trendingLead),
    card("hardest", T_.hardest, T_.hardestLead, true), card("pipeline", T_.pipeline, T_.pipelineLead, true),
  )], { title: T_.title, focus: !first, wide: true });
  style("insights.css").finally(look);
  return () => {
    looks += 1;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    for (const one of Object.values(charts)) one.leave();
  };
}

const amount = (value) => (value === null || value === undefined ? "–" : number(Math.round(value)));
const empty = () => el("p", { class: "empty", text: T.insights.none });

function shown({ measure, value }) {
  if (value === null) return "–";
  if (measure === "streams_running") return value ? T.insights.runs : T.insights.stands;
  if (measure.endsWith("_seconds")) return T.insights.duration(value);
  return number(Math.round(value));
}

// texts: columns from the left that hold words beside the first.
function table(label, columns, rows, texts = 0) {
  const kind = (place) => (place > texts ? "number" : null);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", { class: "board figures", "aria-label": label },
      el("thead", {}, el("tr", {}, columns.map((text, place) => el("th", { scope: "col", class: kind(place), text })))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text, place) =>
        (place ? el("td", { class: kind(place), text }) : el("th", { scope: "row", text }))))))));
}
