// Who this browser is logged in as. The access token lives in memory; the cookie, which no script reads, renews it. A note
// in this browser says whether there may be a log-in at all, so that guests ask for none.

import { Problem, call, download } from "./net.js";

const NOTE = "lakeboard.account";
const EARLY_MS = 30000;
let access = null; // {token, until, user_id, roles}
let renewing = null;

export function mayBeLoggedIn() {
  try {
    return localStorage.getItem(NOTE) === "1";
  } catch {
    return access !== null;
  }
}

function note(yes) {
  try {
    if (yes) localStorage.setItem(NOTE, "1");
    else localStorage.removeItem(NOTE);
  } catch { /* private mode: this tab alone knows */ }
}

export function loggedIn(reply) {
  access = { token: reply.access_token, until: Date.now() + reply.expires_in_s * 1000 - EARLY_MS, user_id: reply.user_id,
    roles: reply.roles };
  note(true);
  return access;
}

export function loggedOut() {
  access = null;
  note(false);
}

// The log-in that this browser has, renewed if need be; null for a guest.
export async function login() {
  if (access && access.until > Date.now()) return access;
  if (!mayBeLoggedIn()) return null;
  renewing = renewing || call("/v1/auth/refresh", { body: {} }).then(loggedIn).finally(() => { renewing = null; });
  try {
    return await renewing;
  } catch (error) {
    if (error.status !== 401) throw error;
    loggedOut();
    return null;
  }
}

// A token for a game that is joined or made by whoever is here; undefined for a guest, who needs none.
export async function ownToken() {
  const found = await login().catch(() => null);
  return found ? found.token : undefined;
}

async function withToken(ask) {
  const found = await login();
  if (!found) throw new Problem(401, { title: "", code: "unauthenticated" });
  try {
    return await ask(found.token);
  } catch (error) {
    if (error.code !== "unauthenticated") throw error;
    access = null; // ended meanwhile, or its time is over: once more, with a new one
    const again = await login();
    if (!again) throw error;
    return ask(again.token);
  }
}

export const asMe = (path, options = {}) => withToken((token) => call(path, { ...options, token }));
export const downloadAsMe = (path, name) => withToken((token) => download(path, name, token));
