// The admins' screen: accounts, keys, address lists, what admins did, and what of the stack is there. #/admin/PART

import { $, button, el, field, form, problem, show } from "./dom.js";
import { asMe } from "./me.js";
import { T, moment } from "./texts.js";

const A = T.admin;
const PARTS = { users, keys, addresses, audit, health };
const when = (text) => (text ? moment(new Date(text)) : "—");

export function adminScreen(part, _query, first) {
  const name = Object.hasOwn(PARTS, part) ? part : "users";
  const body = el("div", { id: "admin", "aria-live": "polite" });
  const told = el("p", { class: "error", role: "alert", id: "admin-error" });
  let gone = false;
  // What an action gave, or why it was refused.
  const act = async (work) => {
    told.replaceChildren();
    try {
      await work();
    } catch (error) {
      if (!gone) told.replaceChildren(...problem(error));
    }
  };
  show([el("section", { class: "card" }, el("h1", { text: A.title }),
    el("p", { class: "actions tabs" }, Object.keys(PARTS).map((one) => el("a", { class: "button", href: `/#/admin/${one}`, text: A.parts[one],
      "aria-current": one === name ? "page" : null }))), told, body)], { title: A.title, focus: !first });
  act(() => PARTS[name](body, act));
  return () => { gone = true; };
}

function table(head, rows) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": A.table }, el("table", { class: "board" },
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col", text })))),
    el("tbody", {}, rows.length ? rows : el("tr", {}, el("td", { colspan: head.length, class: "empty", text: A.nothing })))));
}

const row = (first, ...cells) => el("tr", {}, el("th", { scope: "row" }, first), cells.map((cell) => el("td", {}, cell)));

function ticketShown(found) {
  $("ticket-told").replaceChildren(el("strong", { text: A.ticketOnce(found.ticket_hours) }),
    el("code", { class: "secret", text: `${location.origin}/#/ticket/${found.ticket}` }));
}

async function users(body, act) {
  const list = el("div");
  const search = el("input", { id: "part", type: "search", autocomplete: "off", maxlength: 100 });

  async function look() {
    const found = await asMe(`/v1/admin/users?part=${encodeURIComponent(search.value)}`);
    list.replaceChildren(table([A.account, A.roles, A.used, ""], found.users.map(userRow)));
  }

  function userRow(one) {
    const path = `/v1/admin/users/${one.user_id}`;
    const roles = Object.keys(T.roles).filter((role) => role !== "player").map((role) => el("label", { class: "check" },
      el("input", { type: "checkbox", value: role, checked: one.roles.includes(role), "aria-label": `${T.roles[role]}: ${one.login_name}`,
        onchange: (event) => act(async () => {
          const wanted = new Set(one.roles);
          if (event.target.checked) wanted.add(role);
          else wanted.delete(role);
          try {
            await asMe(`${path}/roles`, { method: "PUT", body: { roles: [...wanted] } });
          } finally {
            await look();
          }
        }) }), T.roles[role]));
    const [what, text] = one.blocked_at ? ["unblock", A.unblock] : ["block", A.block];
    return row(el("span", {}, el("strong", { text: one.login_name }), el("span", { class: "hint", text: one.blocked_at ? A.blocked : one.name })),
      roles, when(one.used_at), el("span", { class: "actions" },
        el("button", { type: "button", text, "aria-label": `${text}: ${one.login_name}`,
          onclick: () => act(async () => { await asMe(`${path}/${what}`, { body: {} }); await look(); }) }),
        el("button", { type: "button", text: A.ticket, "aria-label": `${A.ticket}: ${one.login_name}`,
          onclick: () => act(async () => ticketShown(await asMe(`${path}/ticket`, { body: {} }))) })));
  }

  body.replaceChildren(
    el("form", { role: "search", onsubmit: (event) => { event.preventDefault(); act(look); } },
      field(A.search, search), el("button", { type: "submit", text: A.searchGo })),
    el("p", { id: "ticket-told", role: "status" }), list,
    el("h2", { text: A.add }),
    form("add", [
      el("div", { class: "pair" },
        field(T.account.loginName, el("input", { id: "add-login", autocomplete: "off", maxlength: 254, required: true })),
        field(T.account.name, el("input", { id: "add-name", autocomplete: "off", maxlength: 24, required: true }))),
      el("button", { class: "primary", type: "submit", text: A.addGo }),
    ], async () => {
      ticketShown(await asMe("/v1/admin/users", { body: { login_name: $("add-login").value, name: $("add-name").value, roles: ["host"] } }));
      await look();
    }));
  await look();
}

async function keys(body, act) {
  const { keys: found } = await asMe("/v1/admin/keys");
  body.replaceChildren(table([A.key, A.owner, A.roles, A.used, ""], found.map((one) => row(
    el("span", {}, el("strong", { text: one.name }), el("span", { class: "hint", text: one.key_id })), one.user_id,
    one.scopes.map((scope) => T.roles[scope]).join(", "), when(one.used_at),
    one.ended_at ? A.ended : el("button", { type: "button", text: T.profile.endKey, "aria-label": `${T.profile.endKey}: ${one.name}`,
      onclick: () => act(async () => { await asMe(`/v1/admin/keys/${one.key_id}`, { method: "DELETE" }); await keys(body, act); }) })))));
}

async function addresses(body, act) {
  const found = await asMe("/v1/admin/addresses");
  const verdict = el("select", { id: "verdict" }, ["deny", "allow"].map((one) => el("option", { value: one, text: A.verdicts[one] })));
  body.replaceChildren(
    el("p", { class: "muted", text: A.addressesLead }),
    ...(found.settings.length ? [el("p", { text: A.fromSettings(found.settings) })] : []),
    table([A.network, A.verdict, A.note, ""], found.rules.map((one) => row(one.network, A.verdicts[one.verdict], one.note,
      el("button", { type: "button", text: A.takeAway, "aria-label": `${A.takeAway}: ${one.network}`, onclick: () => act(async () => {
        await asMe(`/v1/admin/addresses?network=${encodeURIComponent(one.network)}`, { method: "DELETE" });
        await addresses(body, act);
      }) })))),
    form("rule", [
      el("div", { class: "pair" },
        field(A.network, el("input", { id: "network", autocomplete: "off", maxlength: 60, required: true }), A.networkHint),
        field(A.verdict, verdict), field(A.note, el("input", { id: "note", autocomplete: "off", maxlength: 200 }))),
      el("button", { class: "primary", type: "submit", text: A.putRule }),
    ], async () => {
      await asMe("/v1/admin/addresses", { method: "PUT",
        body: { network: $("network").value, verdict: verdict.value, note: $("note").value } });
      await addresses(body, act);
    }));
}

async function audit(body, act, before = 0) {
  const found = await asMe(`/v1/admin/audit?before=${before}`);
  body.replaceChildren(table([A.at, A.actor, A.action, A.subject, A.detail], found.entries.map((one) => row(
    when(one.at), one.actor, one.action, one.subject, JSON.stringify(one.detail)))),
  ...(found.next ? [el("p", { class: "actions" }, button(A.older, () => act(() => audit(body, act, found.next))))] : []));
}

async function health(body) {
  const found = await asMe("/v1/admin/health");
  const state = (up) => el("span", { class: up ? "good" : "bad", text: up ? A.up : A.down });
  body.replaceChildren(
    table([A.system, A.state, A.detail], [
      row("Postgres", state(found.postgres.up), found.postgres.up ? A.postgres(found.postgres) : ""),
      ...found.shards.map((one) => row(A.shard(one.shard), state(one.up), one.up ? A.lag(one.relay_lag_s) : "")),
      ...found.handlers.map((one) => row(one.name, state(!one.draining), A.sockets(one.sockets))),
    ]),
    el("p", { class: "muted", text: A.lists(found.addresses) }));
}
