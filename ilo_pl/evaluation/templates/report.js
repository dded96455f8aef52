"use strict";
// Sorting: a heading's button sorts by its column, a second time the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const key = (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    const rank = (value) => (typeof value === "number" ? (Number.isNaN(value) ? 2 : 0) : value === "" ? 2 : 1);
    const order = (a, b) => {
      if (rank(a) !== rank(b)) return rank(a) - rank(b); // what is missing stays last
      const by = typeof a === "number" ? (a - b || 0) : a.localeCompare(b, undefined, { numeric: true });
      return down ? -by : by;
    };
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
  }));
}
// The slider: the pictures are those of the strip below it, so that none is in the page twice.
for (const compare of document.querySelectorAll(".compare")) {
  const pictures = [...compare.closest(".case").querySelectorAll(".strip img")];
  const frame = compare.querySelector(".frame");
  const range = frame.querySelector("input");
  const [left, right] = compare.querySelectorAll("select");
  const show = (select, image, tag) => {
    const picture = pictures[select.selectedIndex];
    image.src = picture.src;
    image.alt = picture.alt;
    image.className = `${image.classList[0]} ${picture.className}`;
    tag.textContent = select.selectedOptions[0].textContent;
  };
  const draw = () => {
    show(left, frame.querySelector(".over"), frame.querySelector(".tag.left"));
    show(right, frame.querySelector(".under"), frame.querySelector(".tag.right"));
    const [l, r] = [left, right].map((s) => s.selectedOptions[0].textContent);
    range.setAttribute("aria-label", `Divider between ${l} on the left and ${r} on the right`);
  };
  const move = () => {
    frame.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${Math.round(range.value)} % of the left picture`);
  };
  range.addEventListener("input", move);
  left.addEventListener("change", draw);
  right.addEventListener("change", draw);
  compare.querySelector("button").addEventListener("click", () => {
    [left.selectedIndex, right.selectedIndex] = [right.selectedIndex, left.selectedIndex];
    draw();
  });
  compare.hidden = false;
  draw();
  move();
}
// A search is shown when it is asked for, once.
for (const details of document.querySelectorAll("details.animation")) {
  const image = details.querySelector("img");
  const play = () => {
    // Another address is another animation, from its beginning.
    image.src = `${image.dataset.src}#${Date.now()}`;
  };
  details.addEventListener("toggle", () => details.open && play());
  details.querySelector("button").addEventListener("click", play);
}
