// Asks for a key, keeps it in the tab, and lets the page itself come in this one's place.
const KEPT = "llorch-key", problem = document.getElementById("problem");
async function enter(key) {
  let answer;
  try {
    answer = await fetch("/", { headers: { Authorization: "Bearer " + key, Accept: "text/html" } });
  } catch {
    problem.textContent = "The server does not answer.";
    return;
  }
  if (!answer.ok) {
    const refused = answer.status === 401 || answer.status === 403;
    if (refused) sessionStorage.removeItem(KEPT);
    problem.textContent = refused ? "This key does not open it." : answer.status === 429 ? "Too many attempts: wait a minute." : `The server answered ${answer.status}: try again in a moment.`;
    return;
  }
  sessionStorage.setItem(KEPT, key);
  const page = await answer.text();
  document.open();
  document.write(page);
  document.close();
}
document.getElementById("form").addEventListener("submit", (e) => {
  e.preventDefault();
  const key = document.getElementById("key").value.trim() || sessionStorage.getItem(KEPT);
  if (key) enter(key);
});
if (sessionStorage.getItem(KEPT)) enter(sessionStorage.getItem(KEPT));
