// The host's dialogs: who plays (remove, let in again), and “are you sure”.

import { button, el, problem } from "./dom.js";
import { call } from "./net.js";
import { T } from "./texts.js";

function open(title, children) {
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() },
    el("h2", { id: "dialog-title", text: title }), children);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function sureDialog(question, yes, act) {
  const dialog = open(question, [el("p", { class: "actions" },
    button(yes, () => { dialog.close(); act(); }, "danger"), button(T.lead.close, () => dialog.close()))]);
}

export function playersDialog(game) {
  const { session_id: id, token } = game.me;
  const list = el("ul", { class: "rows" });
  const told = el("p", { class: "error", role: "alert" });
  const dialog = open(T.lead.players, [list, told, el("p", { class: "actions" },
    button(T.lead.close, () => dialog.close(), "primary"))]);

  async function act(user, what) {
    try {
      if (user) await call(`/v1/sessions/${id}/players/${user}/${what}`, { body: {}, token });
      const { players } = await call(`/v1/sessions/${id}/players`, { token });
      list.replaceChildren(...players.map(row));
    } catch (error) {
      told.replaceChildren(...problem(error));
    }
  }

  function row(one) {
    const [what, text] = one.removed ? ["readmit", T.lead.readmit] : ["remove", T.lead.remove];
    return el("li", {}, el("span", { class: "grow" }, el("strong", { text: one.name }),
      el("span", { class: "hint", text: one.removed ? T.lead.removed : one.connected ? "" : T.lead.away })),
    el("button", { type: "button", text, "aria-label": `${text}: ${one.name}`, onclick: () => act(one.user_id, what) }));
  }

  act();
}
