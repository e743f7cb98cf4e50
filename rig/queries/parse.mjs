// Reads one JSON object a line, {"language": "traceql" | "logql", "text": ...}, and prints for each a line of JSON: {"errors": [...], "nodes": [[name, text], ...]}.
// An error is the piece of the query that the grammar has no place for; nodes are the leaves that say something, in the order of the text.
import { createInterface } from 'node:readline'
import { parser as logql } from '@grafana/lezer-logql'
import { parser as traceql } from '@grafana/lezer-traceql'

const parsers = { logql, traceql }
const SURROUNDINGS = 12

function read({ language, text }) {
  const errors = []
  const nodes = []
  parsers[language].parse(text).iterate({
    enter(node) {
      if (node.type.isError) {
        errors.push(text.slice(Math.max(node.from - SURROUNDINGS, 0), node.to + SURROUNDINGS))
      } else if (node.node.firstChild === null) {
        nodes.push([node.name, text.slice(node.from, node.to)])
      }
    },
  })
  return { errors, nodes }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(read(JSON.parse(line))))
}
