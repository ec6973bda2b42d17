// Holds the lock of a page that edits, and says when it was lost.
import client from "../lock_tokens/lock_tokens.js";

const { app, model, object, token } = document.getElementById("lock").dataset;
// Locked anew is lost, too: what the form shows may have been changed since.
for (const event of ["lost", "relocked"]) {
  document.addEventListener(`lock_tokens.${event}`, () => {
    document.getElementById("lost").hidden = false;
    for (const button of document.querySelectorAll("main form button")) button.disabled = true;
  });
}
await client.register_existing_lock_token(app, model, object, token);
await client.hold_lock(app, model, object);
