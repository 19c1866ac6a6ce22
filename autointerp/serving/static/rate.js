/* Digits answer the first open question, Enter saves, u takes the last rating back. */
"use strict";
onKey((event) => {
  const open = [...document.querySelectorAll("fieldset")].find((one) => !one.querySelector(":checked"));
  const answer = open && [...open.querySelectorAll("label")].find((label) => label.querySelector("kbd").textContent === event.key);
  if (answer) { answer.click(); answer.querySelector("input").focus(); }
  else if (event.key === "Enter" && event.target.tagName !== "BUTTON") by("rate")?.requestSubmit();
  else if (event.key === "u") by("undo")?.requestSubmit();
  else return;
  event.preventDefault();
});
