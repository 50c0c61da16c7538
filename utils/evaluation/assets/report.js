"use strict";

// Tables: a press on a column's name sorts by it, a second press the other way round; dashes stay at the end.
for (const table of document.querySelectorAll("table:not(.plain)")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const words = column === 0;
      const first = words ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? (words ? "descending" : "ascending") : first;
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => (row.cells[column].hasAttribute("data-value") ? Number(row.cells[column].dataset.value) : null);
      const compare = (a, b) => {
        if (words) return sign * a.cells[0].textContent.localeCompare(b.cells[0].textContent, "en", { numeric: true });
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return x === y ? 0 : sign * (x < y ? -1 : 1);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}

// Scenes: two pictures of the list on both sides of the line, at one exposure and one zoom.
const LARGEST = 16; // times
const data = document.getElementById("data");
const scenes = data ? JSON.parse(data.textContent) : [];

class SceneView {
  constructor(article) {
    this.find = (selector) => article.querySelector(selector);
    this.looks = scenes[Number(article.dataset.scene)].looks;
    this.slider = this.find("img-comparison-slider");
    this.images = [...this.slider.querySelectorAll("img")];
    this.selects = [this.find(".left"), this.find(".right")];
    this.zoom = 1;
    this.x = this.y = 0; // pixels by which the zoomed picture is moved
    this.fill();
    const hdr = this.find("[data-hdr]");
    if (hdr && matchMedia("(dynamic-range: high)").matches) hdr.checked = true; // the screen can show it
    this.listen(article);
    this.show();
  }

  fill() {
    for (const select of this.selects) {
      for (const [index, look] of this.looks.entries()) select.add(new Option(look.name, index));
    }
    const results = [...this.looks.keys()].filter((index) => this.looks[index].kind === "result");
    this.selects[0].value = results.length > 1 ? results[0] : 1; // one method stands beside the reference frame
    this.selects[1].value = results.at(-1) ?? this.looks.length - 1;
  }

  listen(article) {
    article.addEventListener("change", () => this.show());
    this.find(".swap").addEventListener("click", () => {
      [this.selects[0].value, this.selects[1].value] = [this.selects[1].value, this.selects[0].value];
      this.show();
    });
    for (const button of article.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.zoomBy(button.dataset.zoom === "in" ? 2 : 0.5));
    }
    this.slider.addEventListener("slide", () => this.tellPosition());
    this.find("figure").addEventListener("keydown", (event) => this.key(event), true); // before the slider's own
    this.slider.addEventListener("dblclick", (event) => this.zoomBy(this.zoom > 1 ? 1 / this.zoom : 4, event));
    this.slider.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.zoomBy(event.deltaY < 0 ? 2 : 0.5, event);
    }, { passive: false });
    this.slider.addEventListener("pointerdown", (event) => this.grab(event));
    new ResizeObserver(() => this.place()).observe(this.slider);
  }

  show() {
    const chosen = this.selects.map((select) => this.looks[Number(select.value)]);
    const exposure = Number(this.find(".exposures input:checked").value);
    chosen.forEach((look, side) => {
      this.images[side].src = look.pictures[Math.min(exposure, look.pictures.length - 1)];
      this.images[side].alt = look.name;
    });
    this.find(".side-left").textContent = chosen[0].name;
    this.find(".side-right").textContent = chosen[1].name;
    this.find(".exposures").disabled = chosen.every((look) => look.ends);
    this.slider.setAttribute("aria-label", `Line between ${chosen[0].name} (left) and ${chosen[1].name} (right)`);
    this.find(".about").textContent = [...new Set(chosen.map((look) => `${look.name}: ${look.about}`))].join(" · ");
    const ends = [...new Set(chosen.filter((look) => look.ends).map((look) => look.ends))];
    this.find(".legend").hidden = ends.length === 0;
    this.find(".ends").textContent = ends.join(" and ");
    this.tellPosition();
  }

  tellPosition() {
    this.slider.setAttribute("aria-valuenow", Math.round(this.slider.value));
  }

  key(event) {
    if (event.target !== this.slider) return;
    const step = 40;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const ends = { Home: 0, End: 100 };
    const zooms = { "+": 2, "=": 2, "-": 0.5, 0: 1 / this.zoom };
    if (event.shiftKey && event.key in moves) this.moveBy(...moves[event.key]);
    else if (event.key in ends) { this.slider.value = ends[event.key]; this.tellPosition(); }
    else if (event.key in zooms && !event.ctrlKey && !event.metaKey) this.zoomBy(zooms[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  zoomBy(factor, event = null) {
    const box = this.slider.getBoundingClientRect();
    const [px, py] = event ? [event.clientX - box.left, event.clientY - box.top] : [box.width / 2, box.height / 2];
    const zoom = Math.min(LARGEST, Math.max(1, this.zoom * factor));
    this.x = px - ((px - this.x) * zoom) / this.zoom; // what is under the pointer stays there
    this.y = py - ((py - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.place();
  }

  moveBy(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.place();
  }

  place() {
    const { width, height } = this.slider.getBoundingClientRect();
    this.x = Math.min(0, Math.max(width * (1 - this.zoom), this.x));
    this.y = Math.min(0, Math.max(height * (1 - this.zoom), this.y));
    for (const [name, value] of [["--x", `${this.x}px`], ["--y", `${this.y}px`], ["--z", this.zoom]]) {
      this.slider.style.setProperty(name, value);
    }
    this.slider.classList.toggle("zoomed", this.zoom > 1);
    this.slider.classList.toggle("close", this.zoom >= 4);
    this.slider.handle = String(this.zoom > 1); // then only the handle moves the line, and the rest moves the picture
    this.find("output").textContent = `${Number(this.zoom.toFixed(1))}×`;
  }

  grab(event) {
    const handle = this.find(".handle").getBoundingClientRect();
    const within = event.clientX >= handle.left && event.clientX <= handle.right && event.clientY >= handle.top && event.clientY <= handle.bottom;
    if (this.zoom === 1 || within || event.button !== 0) return;
    let [x, y] = [event.clientX, event.clientY];
    const move = (now) => {
      this.moveBy(now.clientX - x, now.clientY - y);
      [x, y] = [now.clientX, now.clientY];
    };
    const stop = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  }
}

// A scene's pictures are decoded when it comes near the window.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    new SceneView(target);
  }
}, { rootMargin: "600px" });
for (const article of document.querySelectorAll(".scene")) near.observe(article);
