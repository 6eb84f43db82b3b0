// Every text of the page, in one place. Words that carry a number are functions.

const plural = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
export const ordinal = (n) => {
  const rest = n % 100;
  const end = rest > 10 && rest < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] || "th";
  return `${n.toLocaleString("en")}${end}`;
};
export const number = (n) => n.toLocaleString("en");
export const share = (x) => `${Math.round(100 * x)}\u00a0%`;
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
export const pinShown = (pin) => `${pin.slice(0, 3)} ${pin.slice(3)}`;
const clock = (date) => date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
// A day of a board is a date; an instant is shown in the reader’s own zone.
const day = (date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const localDay = (date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
export const moment = (date) => `${localDay(date)}, ${clock(date)}`;
const sameDay = (a, b) => a.toDateString() === b.toDateString();
// An instant as it is written in a reply: today's without its day.
export const shortMoment = (text) => {
  const date = new Date(text);
  return sameDay(date, new Date()) ? clock(date) : moment(date);
};

export const T = {
  nav: { play: "Join", host: "Host", boards: "Leaderboards" },
  line: "Reconnecting …",
  notFound: { title: "Nothing is here", back: "To the start" },
  problems: {
    unknown: "That did not work",
    offline: "No connection",
    offlineDetail: "The server cannot be reached. Try again in a moment.",
  },
  join: {
    title: "Join a game",
    lead: "Type the PIN from the big screen. No account needed.",
    pin: "Game PIN",
    name: "Your name",
    nameHint: "Everybody in the game sees it.",
    pinWrong: "A PIN has six digits.",
    nameMissing: "Write your name first.",
    go: "Join",
    back: (name) => `Go on as ${name}`,
    backLead: (title) => `You are in “${title}” already.`,
    hostLead: "Want to lead a game?",
    hostGo: "Host a game",
  },
  setup: {
    title: "Host a game",
    lead: "Pick a quiz. Others join with a PIN or the QR code, on any phone.",
    quiz: "Quiz",
    words: (n) => plural(n, "word", "words"),
    kind: "How it is played",
    hosted: "Live, together",
    hostedHint: "You lead. Everybody sees the same question at the same time.",
    challenge: "Challenge, by link",
    challengeHint: "Everybody plays alone, whenever they like, until it closes.",
    open: "Open for",
    spans: [[3600, "an hour"], [86400, "a day"], [259200, "three days"], [604800, "a week"], [2592000, "30 days"]],
    go: "Create",
    earlier: "Hosted on this device",
    lead_: "Open",
    report: "Report",
  },
  lobby: {
    you: (name) => `You are in, ${name}!`,
    wait: "Look at the big screen. The game starts when the host is ready.",
    joinAt: "Join at",
    withPin: "with the game PIN",
    qr: "QR code that opens the join page",
    players: (n) => (n === 0 ? "Nobody is here yet" : plural(n, "player is here", "players are here")),
    more: (n) => `and ${n} more`,
    locked: "Locked: nobody new gets in",
  },
  question: {
    count: (n, of) => `Question ${n} of ${of}`,
    left: "Time left",
    seconds: (n) => `${n} s`,
    answered: (n, of) => `${n} of ${of} answered`,
    everybody: "Everybody has answered",
    keys: "Keys 1 to 4 answer too.",
    sent: "Sent …",
    moment: "One moment …",
    right: (points) => `Right! +${number(points)}`,
    wrong: "Not this time",
    place: (rank, total) => `${ordinal(rank)} place · ${number(total)} points`,
    already: "You have answered this one.",
    late: "Too late: this question has closed.",
    closed: "Time is up",
    none: "No answer this time.",
    answerWas: (text) => `The answer: ${text}`,
    isRight: "right answer",
    yours: "your answer",
    picked: (n) => plural(n, "answer", "answers"),
  },
  standings: {
    title: "Standings",
    place: (rank, of) => `You are ${ordinal(rank)} of ${of}`,
    keepOn: "Keep going: the next question counts too.",
    up: (n) => `up ${n}`,
    down: (n) => `down ${n}`,
    same: "no change",
    fresh: "new here",
    someone: "someone",
    points: (n) => `${number(n)} points`,
    players: (n) => plural(n, "player", "players"),
    you: "you",
  },
  paused: { title: "Paused", wait: "The host has stopped the clock. Stay here.",
    left: (ms) => `${Math.ceil(ms / 1000)} s are left of the question.` },
  podium: {
    title: "The podium",
    won: (name) => `${name} wins!`,
    yours: (rank, points) => `You came ${ordinal(rank)} with ${number(points)} points.`,
    nobody: "Nobody played.",
  },
  ended: {
    title: "That’s it!",
    final: (title) => `“${title}” is over. The standings are final.`,
    boards: "See the leaderboards",
    again: "Join another game",
    report: "Class report",
    hostAgain: "Host another game",
    removed: "The host has removed you from this game.",
    gone: "This game is not there any more.",
  },
  lead: {
    bar: "Lead the game",
    start: "Start",
    show: "Show the answer",
    standings: "Standings",
    next: "Next question",
    podium: "Podium",
    end: "End the game",
    pause: "Pause",
    resume: "Go on",
    skip: "Skip",
    lock: "Lock",
    unlock: "Unlock",
    players: "Players",
    full: "Full screen",
    close: "Close",
    remove: "Remove",
    readmit: "Let in again",
    away: "away",
    removed: "removed",
    sure: "End the game for everybody?",
    keys: "The → key goes on too",
  },
  challenge: {
    join: (title) => `Challenge: ${title}`,
    lead: "Play at your own pace. Each question’s clock starts when you see it.",
    open: (until) => `Open until ${until}.`,
    start: "Show me the first question",
    goOn: "Go on",
    next: "Next question",
    timeUp: "Time is up for this one.",
    done: "You are through!",
    doneLead: (until) => `The right answers are shown here once it closes, ${until}.`,
    review: "The right answers",
    share: "Share the link",
    link: "Link to the challenge",
    copy: "Copy",
    copied: "Copied",
    closeNow: "Close it now",
    sure: "Close the challenge for everybody?",
    closed: "The challenge is closed.",
  },
  boards: {
    title: "Leaderboards",
    lead: "Any board over any span of time, and how exact it is.",
    scope: "Board",
    global: "All quizzes",
    span: "Time",
    spans: { daily: "Day", weekly: "Week", monthly: "Month", all_time: "All time", range: "Any range" },
    on: "Day in it",
    onHint: "Leave it empty for the one that runs now",
    from: "From",
    to: "To, that day included",
    top: "Rows",
    around: "Around",
    aroundHint: "A name on the board, or a user’s id",
    me: (name) => `Around me (${name})`,
    fast: "A quick estimate will do",
    show: "Show",
    rank: "Place",
    player: "Player",
    points: "Points",
    reached: "Reached",
    empty: "Nobody is on this board yet.",
    participants: (n) => `${plural(n, "player is", "players are")} on this board.`,
    neighbours: "Around",
    notHere: (who) => `${who} is not on this board.`,
    when: {
      daily: (start) => day(start),
      weekly: (start) => `week from ${day(start)}`,
      monthly: (start) => start.toLocaleDateString("en-GB", { month: "long", year: "numeric", timeZone: "UTC" }),
      all_time: () => "all time",
    },
    from_to: (from, to) => `${day(from)} – ${day(to)}`,
    aroundRow: (name) => `Show around ${name}`,
    caption: (scope, when) => `${scope}, ${when}`,
  },
  provenance: {
    title: "Where this comes from",
    live: (at) => `Live from memory, exact, as of ${at}.`,
    liveSummed: (at) => `Still running: added up as of ${at}.`,
    settled: (at) => `Settled for ever, published ${at}.`,
    settledSummed: (at) => `Added up from settled days, published ${at}.`,
    provisional: (at) => `Ended, not settled yet: exact as of ${at}, and late answers may still come in.`,
    estimate: (value, confidence) =>
      `Estimate, ± ${number(value)} players on places and numbers, with ${Math.round(100 * confidence)} % certainty.`,
    source: { redis: "", rankings: "From the published rankings.", lake: "From the archive of all answers.",
      mixed: "From the archive of all answers, and today’s live boards." },
    rules: (rules) => `Scored by ${rules.join(", ")}.`,
    settlement: (id) => `Settlement ${id}.`,
  },
  report: {
    title: "Class report",
    of: (title) => `“${title}”`,
    running: "The game is still running; this is how it stands.",
    refresh: "Refresh",
    players: "Players",
    answers: "Answers",
    right: "Right",
    hardest: "Hardest questions",
    hardestLead: "Least right answers first.",
    csvQuestions: "Questions as CSV",
    csvPlayers: "Players as CSV",
    asOf: (text) => `As of ${text}.`,
    number: (n) => `Question ${n}`,
    ofAnswered: (right, answered) => `${right} of ${answered} right`,
    unanswered: "Nobody answered",
    median: (ms) => `half were faster than ${seconds(ms)}`,
    wrong: (choice) => `most chosen wrong: ${choice}`,
    stillOpen: "still open: its answer is not told yet",
    answer: (text) => `Answer: ${text}`,
    name: "Player",
    place: "Place",
    points: "Points",
    removed: "removed",
    none: "No question was asked yet.",
    noToken: "This device did not host that game, so it cannot see its report.",
    back: "Back to the game",
  },
};

// A board's provenance in plain words, one sentence a line.
export function provenanceWords(p) {
  const at = shortMoment(p.as_of);
  const W = T.provenance;
  const told = [];
  if (p.bound) told.push(W.estimate(p.bound.value, p.bound.confidence));
  if (p.state === "live") told.push(p.source === "redis" ? W.live(at) : W.liveSummed(at));
  else if (p.state === "settled") told.push(p.source === "rankings" ? W.settled(at) : W.settledSummed(at));
  else told.push(W.provisional(at));
  if (W.source[p.source]) told.push(W.source[p.source]);
  if (p.settlement) told.push(W.settlement(p.settlement));
  if (p.rules && p.rules.length) told.push(W.rules(p.rules));
  return told;
}
