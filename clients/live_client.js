// Client of the play socket, protocol live.v1 (docs/api/live.v1.asyncapi.json). No build step, no dependency.
//
// It comes back by itself (jittered back-off, through whichever handler placement names), says what it saw last so that
// only newer states are sent, and sends again what has no reply yet: a repeat gets the first result, so that is harmless.

export const PROTOCOL = "live.v1";
// After these the server does not want this client back: another protocol, no valid token, removed, no such session.
export const FINAL_CODES = [4400, 4401, 4403, 4404];
const BACK_OFF_MS = [300, 5000];
const PING_EVERY_MS = 15000;
const PONG_WITHIN_MS = 10000;
// An error of the server: the same message may be sent again after a pause.
const RETRY_STATUS = 500;
const TOO_MANY = 429;

// Whether an error means that the client sends the message again by itself.
export const sentAgain = (status) => status >= RETRY_STATUS || status === TOO_MANY;

export class LiveClient {
  // token, sessionId: as create or join returned them. onMessage(message): each message of the server, newest states only.
  // onLine(up): the line came or went. onEnd(code): it will not come back. base: the server's address.
  constructor({ token, sessionId, onMessage, onLine = () => {}, onEnd = () => {}, base = location.origin }) {
    Object.assign(this, { token, sessionId, onMessage, onLine, onEnd, base });
    this.pending = new Map();
    this.epoch = null;
    this.seq = null;
    this.tries = 0;
    this.refs = 0;
    this.skewMs = 0;
    this.socket = null;
    this.stopped = false;
    this.timers = new Set();
  }

  start() {
    this.connect();
    return this;
  }

  // Ends the line for good.
  stop() {
    this.stopped = true;
    for (const timer of this.timers) clearTimeout(timer);
    if (this.socket) this.socket.close(1000);
  }

  // Each returns the `ref` that the reply carries.
  answer(questionId, choice) {
    return this.send({ type: "answer", question_id: questionId, choice });
  }

  // In a challenge: the next question.
  next() {
    return this.send({ type: "next" });
  }

  // The server's clock, ms.
  now() {
    return Date.now() + this.skewMs;
  }

  send(message) {
    const ref = `${Date.now().toString(36)}-${this.refs++}`;
    this.pending.set(ref, { ...message, ref });
    this.write(this.pending.get(ref));
    return ref;
  }

  write(message) {
    if (this.welcomed && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  later(call, ms) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (!this.stopped) call();
    }, ms);
    this.timers.add(timer);
    return timer;
  }

  // Where to connect; any handler will do if nobody can say, or if the one that was named did not answer.
  async path() {
    if (this.tries > 0 && this.tries % 2 === 0) return "/v1/live";
    try {
      const reply = await fetch(`${this.base}/v1/sessions/${this.sessionId}/handler`,
        { headers: { Authorization: `Bearer ${this.token}` } });
      if (reply.ok) return (await reply.json()).path;
    } catch { /* the next line is the answer */ }
    return "/v1/live";
  }

  async connect() {
    const address = new URL(await this.path(), this.base.replace(/^http/, "ws"));
    if (this.stopped) return;
    address.searchParams.set("token", this.token);
    if (this.epoch !== null) address.searchParams.set("epoch", this.epoch);
    if (this.seq !== null) address.searchParams.set("seq", this.seq);
    this.welcomed = false;
    const socket = new WebSocket(address, [PROTOCOL]);
    this.socket = socket;
    this.heardAt = Date.now();
    socket.addEventListener("message", (event) => this.receive(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => this.closed(socket, event.code));
    this.later(() => this.ping(socket), PING_EVERY_MS);
  }

  ping(socket) {
    if (socket !== this.socket || socket.readyState !== WebSocket.OPEN) return;
    const askedAt = Date.now();
    socket.send(JSON.stringify({ type: "ping" }));
    this.later(() => {
      // A line that is dead without saying so: a phone that changed its network.
      if (socket === this.socket && this.heardAt < askedAt) this.closed(socket, 1006);
    }, PONG_WITHIN_MS);
    this.later(() => this.ping(socket), PING_EVERY_MS);
  }

  closed(socket, code) {
    if (socket !== this.socket || this.stopped) return;
    this.socket = null;
    this.welcomed = false;
    socket.close();
    if (FINAL_CODES.includes(code)) {
      this.stopped = true;
      this.onEnd(code);
      return;
    }
    this.onLine(false);
    // Jittered: after a restart not everybody comes back in the same moment.
    const pause = Math.min(BACK_OFF_MS[1], BACK_OFF_MS[0] * 2 ** this.tries++);
    this.later(() => this.connect(), pause * (0.5 + Math.random() / 2));
  }

  receive(message) {
    this.heardAt = Date.now();
    if (message.now_us) this.skewMs = message.now_us / 1000 - Date.now();
    if (message.type === "welcome") {
      this.welcomed = true;
      this.tries = 0;
      // The server was set back: what it says now holds.
      if (message.epoch < this.epoch || message.seq < this.seq) this.epoch = this.seq = null;
      this.onLine(true);
      this.onMessage(message);
      for (const waiting of this.pending.values()) this.write(waiting);
      return;
    }
    if (message.ref && this.pending.has(message.ref)) {
      if (message.type === "error" && sentAgain(message.status)) {
        const waiting = this.pending.get(message.ref);
        this.later(() => this.pending.has(waiting.ref) && this.write(waiting), 500 + 500 * Math.random());
      } else {
        this.pending.delete(message.ref);
      }
    }
    if (message.type === "board") {
      if (this.seq !== null && message.seq < this.seq) return;
      this.seq = message.seq;
    } else if (message.epoch !== undefined) {
      if (this.epoch !== null && message.epoch < this.epoch) return;
      this.epoch = message.epoch;
    }
    this.onMessage(message);
  }
}
