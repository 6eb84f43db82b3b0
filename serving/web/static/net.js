// Asking the server, and what this browser keeps: the tab's seat in a game, earlier seats, sessions hosted here.

import { T } from "./texts.js";

// A problem document (RFC 9457) as an error: `message` is its title.
export class Problem extends Error {
  constructor(status, document_) {
    super(document_.title || T.problems.unknown);
    Object.assign(this, { status, code: document_.code, detail: document_.detail, nextStep: document_.next_step });
  }
}

// file: a body as it is; method: where it is not GET, or POST with a body; headers: further ones.
async function ask(path, { body, token, method, file, headers: more } = {}) {
  const headers = { ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  else if (file) headers["Content-Type"] = "application/octet-stream";
  if (token) headers.Authorization = `Bearer ${token}`;
  let reply;
  try {
    reply = await fetch(path, { method: method || (body === undefined ? "GET" : "POST"), headers,
      body: body === undefined ? file : JSON.stringify(body) });
  } catch {
    throw new Problem(0, { title: T.problems.offline, detail: T.problems.offlineDetail });
  }
  if (reply.ok) return reply;
  throw new Problem(reply.status, await reply.json().catch(() => ({})));
}

// A picture or a recording goes into the store: {kind, url}. Raises Problem.
export const upload = (file, token) => call("/v1/media", { method: "POST", file, token });

// The JSON of a route. Raises Problem. With a body it is a POST, if no method is named; file: sent as it is.
export async function call(path, options) {
  return (await ask(path, options)).json();
}

// Saves what a route gives as a file: the token goes in a header, so a plain link cannot do it.
export async function download(path, name, token) {
  const address = URL.createObjectURL(await (await ask(path, { token })).blob());
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const SEAT = "lakeboard";
const SEATS = "lakeboard.seats";
const HOSTED = "lakeboard.hosted";
const DAY_MS = 24 * 3600 * 1000;
const REPORTS_DAYS = 31; // as long as a host's token lives
const KEPT = 20;

function kept(key, days) {
  try {
    return JSON.parse(localStorage.getItem(key) || "[]").filter((one) => Date.now() - one.at < days * DAY_MS);
  } catch {
    return []; // another version's, or a browser that keeps nothing
  }
}

function keep(key, one, days) {
  const others = kept(key, days).filter((other) => other.session_id !== one.session_id || other.user_id !== one.user_id);
  try {
    localStorage.setItem(key, JSON.stringify([{ ...one, at: Date.now() }, ...others].slice(0, KEPT)));
  } catch { /* private mode: this tab alone keeps it */ }
}

// Who this tab is: {token, session_id, user_id, name, pin, mode, title, host}, or null.
export function seat() {
  return JSON.parse(sessionStorage.getItem(SEAT) || "null");
}

export function takeSeat(one) {
  sessionStorage.setItem(SEAT, JSON.stringify(one));
  if (one.host) keep(HOSTED, one, REPORTS_DAYS);
  else keep(SEATS, one, 1);
}

export function leaveSeat() {
  sessionStorage.removeItem(SEAT);
}

// Forgets a seat for good: the game is over, or its host does not want this player.
export function forgetSeat(one) {
  leaveSeat();
  localStorage.setItem(SEATS, JSON.stringify(kept(SEATS, 1).filter((other) => other.user_id !== one.user_id)));
}

// Seats of this browser's last day, newest first; a phone that lost its tab comes back by one.
export const seats = () => kept(SEATS, 1);
export const hosted = () => kept(HOSTED, REPORTS_DAYS);

// The players that played here, newest first: {user_id, name}; boards can be shown around them.
export function players() {
  return kept("lakeboard.players", 400);
}

export function rememberPlayer({ user_id, name }) {
  keep("lakeboard.players", { user_id, name }, 400);
}
