// Shows how files get on. The server sends each card as HTML; what it shows is in one place.
const list = document.getElementById("files");
const ids = [...list.querySelectorAll("[data-live]")].map((card) => card.dataset.id);

if (ids.length > 0) {
  const url = new URL(list.dataset.events, location.href);
  for (const id of ids) url.searchParams.append("id", id);
  url.searchParams.set("path", location.pathname + location.search);
  const events = new EventSource(url);
  events.addEventListener("file", (event) => {
    const { id, html, over } = JSON.parse(event.data);
    const card = document.getElementById(`f-${id}`);
    if (!card) return;
    const told = document.getElementById("told");
    // The rest of a file's own page changes with its end.
    if (over && "reload" in list.dataset) {
      events.close();
      location.reload();
      return;
    }
    const fresh = new DOMParser().parseFromString(html, "text/html").querySelector("article");
    const [bar, fresher] = [card, fresh].map((one) => one.querySelector("progress"));
    const [before, now] = [card, fresh].map((one) => one.querySelectorAll("button").length);
    if (bar && fresher && before === now) {
      // Only the numbers: what somebody is about to press stays where it is.
      if (fresher.hasAttribute("value")) bar.value = fresher.value;
      bar.max = fresher.max;
      card.querySelector(".progress span").textContent = fresh.querySelector(".progress span").textContent;
      return;
    }
    const focused = card.contains(document.activeElement);
    card.replaceWith(fresh);
    // For those who do not see it.
    told.textContent = `${fresh.querySelector("h2").textContent}: ${fresh.querySelector(".status").textContent}`;
    if (focused) fresh.querySelector("a, button")?.focus();
  });
  events.addEventListener("end", () => events.close());
}
