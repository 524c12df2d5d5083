/* Ask the service each second, and put what is new into its place. */

const EVERY = 1000, LONGEST = 8000;
const MEANS = {
  pause: ["Pause", "The weight stays as it is and nothing is promoted until somebody resumes. Harm still rolls back."],
  resume: ["Resume", "The release goes on from the weight that it has."],
  rollback: ["Roll back", "All traffic goes to the champion at once; of a release that is watched, to the champion before."],
  promote: ["Promote", "The canary becomes champion without waiting for the judge. Whatever is not proven stays unproven."],
};
const place = (id) => document.getElementById(id);
const shown = {};
let weights = null, curves = [], title = "", refusals = {};

/* Text with what stands between backticks as code. */
const mark = (place, text) =>
  place.replaceChildren(...text.split(/`([^`]+)`/).map((part, at) => (at % 2 ? element("code", "", part) : part)));

const draw = ({ weights: line, metrics }) => {
  place("over-time").hidden = !line[1].some((weight) => weight > 0);
  if (!place("over-time").hidden) {
    weights ??= new Weights(place("weights"), "Canary's weight", "share of all traffic");
    weights.update(line);
  }
  place("curves").hidden = !metrics.some((metric) => metric.seconds.length);
  const names = JSON.stringify(metrics.map((metric) => metric.name));
  if (names !== shown.names) {
    shown.names = names;
    place("metrics").replaceChildren();
    curves = metrics.map((metric) => new Evidence(place("metrics"), metric.name, ""));
  }
  if (!place("curves").hidden) metrics.forEach((metric, at) => curves[at].update(metric));
};

const allow = (found) => {
  refusals = found;
  const told = [];
  for (const button of document.querySelectorAll("[data-order]")) {
    const why = refusals[button.dataset.order];
    button.disabled = Boolean(why);
    button.title = why;
    if (why && !told.includes(why)) told.push(why);
  }
  const enabled = document.querySelectorAll("[data-order]:enabled").length;
  place("why").textContent = enabled ? "" : `Nothing to do: ${told.join("; ")}.`;
};

const take = (news) => {
  for (const [name, text] of Object.entries(news.parts ?? {})) {
    if (shown[name] !== text) {
      const part = place(name), scrolled = part.querySelector(".ledger")?.scrollTop;
      const focused = part.contains(document.activeElement);
      part.innerHTML = text; // escaped by the service's template; the page's policy runs nothing in it
      const ledger = part.querySelector(".ledger");
      if (ledger && scrolled) ledger.scrollTop = scrolled;
      if (focused) ledger?.focus({ preventScroll: true });
    }
    shown[name] = text;
  }
  if (title && news.title !== title) place("live").textContent = `${news.title}. ${news.sentence}`;
  title = news.title;
  document.title = `${title} · Switchback release`;
  draw(news.charts);
  allow(news.refusals);
};

let since = null;
const look = async () => {
  try {
    const answer = await fetch("news", { signal: AbortSignal.timeout(LONGEST), cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    take(await answer.json());
    since = null;
  } catch {
    since ??= new Date();
    place("silent").querySelector("b").textContent = since.toLocaleTimeString();
  }
  place("silent").hidden = since === null;
  setTimeout(look, EVERY);
};

const dialog = place("dialog"), form = dialog.querySelector("form"), refused = dialog.querySelector(".refused");
let order = "";
for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => {
    order = button.dataset.order;
    const [name, means] = MEANS[order];
    place("dialog-title").textContent = place("confirm").textContent = name;
    place("dialog-means").textContent = means;
    form.elements.reason.value = "";
    refused.hidden = true;
    dialog.showModal();
  });
}
place("cancel").addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ actor: form.elements.actor.value.trim(), reason: form.elements.reason.value.trim() });
  place("confirm").disabled = true;
  try {
    const answer = await fetch(order, { method: "POST", headers: { "content-type": "application/json" }, body });
    const told = await answer.json();
    if (answer.ok) dialog.close();
    else mark(refused, told.fix ? `${told.error}. Fix: ${told.fix}` : told.error);
    refused.hidden = answer.ok;
  } catch {
    refused.textContent = "The service does not answer; nothing is known to have happened.";
    refused.hidden = false;
  }
  place("confirm").disabled = false;
});

document.querySelector(".orders").hidden = false;
if (location.search) history.replaceState(null, "", location.pathname); // a token is not for the history
const redraw = () => { for (const one of [weights, ...curves]) if (one?.u) one.draw(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
take(JSON.parse(place("data").textContent));
setTimeout(look, EVERY);
