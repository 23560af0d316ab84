/* Marks of parts: the page cannot write beside itself, so the button downloads the parts with their marks. */
(() => {
  "use strict";
  const save = document.getElementById("save"), fields = [...document.querySelectorAll("fieldset.marks")];
  const parts = JSON.parse(document.getElementById("parts").textContent);
  for (const element of [save.parentElement, ...fields]) element.hidden = false;

  save.addEventListener("click", () => {
    for (const field of fields) {
      parts.parts[field.dataset.part - 1].mark = field.querySelector("input:checked").value;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(parts)], { type: "application/json" }));
    link.download = save.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
})();
