// Runs the script of the status page once, on answers from stdin and a document of the least that it asks for, and
// prints what stands where.
import { readFileSync } from "node:fs"
import vm from "node:vm"

const answers = JSON.parse(readFileSync(0, "utf-8"))
const html = readFileSync(process.argv[2], "utf-8")
const element = tag => ({
  tag, className: "", children: [], style: {}, dataset: {}, title: "", said: "",
  append(...inside) { this.children.push(...inside) },
  replaceChildren(...inside) { this.children = inside },
  set textContent(text) { this.said = String(text) },
})
const text = each => each.said || (each.children ?? [each]).map(e => typeof e === "string" ? e : text(e)).join("")
const ids = {}
const context = {
  URL, Promise, String, Math, Object, Error,
  Date: { now: () => 1_000_000 },
  location: { origin: "http://host" },
  document: { getElementById: id => ids[id] ??= element(id), createElement: element, body: element("body") },
  fetch: async url => ({ ok: true, json: async () => answers[url.pathname.split("/tyche/")[1]] }),
  setTimeout: () => {
    const card = each => ({
      name: text(each.children[0]), detail: text(each.children[1]),
      width: each.children[2].children[0].style.width, kind: each.children[2].className,
    })
    const cell = each => ({ text: text(each), chips: each.children.map(e => e.className ?? "").filter(Boolean) })
    console.log(JSON.stringify({
      said: Object.fromEntries(["in-flight", "queued", "removed", "notes", "trouble"].map(id => [id, text(ids[id])])),
      nodes: ids.nodes.children.map(card), gpus: ids.gpus.children.map(card),
      containers: ids.containers.children.map(row => row.children.map(cell)),
    }))
  },
}
vm.runInNewContext(html.match(/<script>([\s\S]*)<\/script>/)[1], context)
