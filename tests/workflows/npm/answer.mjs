// GitHub's parser of workflows and its evaluator of expressions, asked over stdin: a JSON object per line, answered by
// one line. A question that cannot be answered gets {"error": …}.

import { createInterface } from "node:readline";
import { Evaluator, Lexer, Parser, data } from "@actions/expressions";
import { FunctionCall, IndexAccess, ContextAccess, Literal, Star } from "@actions/expressions/ast";
import { NoOperationTraceWriter, convertWorkflowTemplate, parseWorkflow } from "@actions/workflow-parser";
import { convertActionTemplate, parseAction } from "@actions/workflow-parser/actions/index";
import { ErrorPolicy } from "@actions/workflow-parser/model/convert";
import { ensureStatusFunction } from "@actions/workflow-parser/model/converter/if-condition";
import { isBasicExpression, isMapping, isSequence } from "@actions/workflow-parser/templates/tokens/type-guards";

const CONTEXTS = ["github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy", "matrix", "needs", "inputs"];
const STATUS = ["success", "failure", "cancelled", "always"];
const FUNCTIONS = [
  ...STATUS.map(name => ({ name, minArgs: 0, maxArgs: 0 })),
  { name: "hashFiles", minArgs: 1, maxArgs: 255 },
];

// A value as it was written: text is text, an expression is "${{ … }}", and conditions say which status they demand.
function plain(token) {
  if (isSequence(token)) return [...token].map(plain);
  if (isMapping(token)) {
    return Object.fromEntries([...token].map(({ key, value }) => {
      const name = isBasicExpression(key) ? key.toString() : key.value;
      return [name, name === "if" ? condition(value) : plain(value)];
    }));
  }
  return isBasicExpression(token) ? token.toString() : (token.value ?? null);
}

function condition(token) {
  const text = isBasicExpression(token) ? token.expression : String(token.value).trim();
  return ensureStatusFunction(text, token.definitionInfo);
}

async function workflow({ path, content, files }) {
  const parsed = parseWorkflow({ name: path, content }, new NoOperationTraceWriter());
  if (parsed.value) {
    const provider = { getFileContent: async ({ path }) => ({ name: path, content: files[path] }) };
    const options = { fetchReusableWorkflowDepth: 1, errorPolicy: ErrorPolicy.TryConversion };
    await convertWorkflowTemplate(parsed.context, parsed.value, provider, options);
  }
  return told(parsed);
}

function action({ path, content }) {
  const parsed = parseAction({ name: path, content }, new NoOperationTraceWriter());
  if (parsed.value) convertActionTemplate(parsed.context, parsed.value, { errorPolicy: ErrorPolicy.TryConversion });
  return told(parsed);
}

function told({ context, value }) {
  return { errors: context.errors.getErrors().map(error => error.message), tree: value ? plain(value) : null };
}

const parsed = expression => new Parser(new Lexer(expression).lex().tokens, CONTEXTS, FUNCTIONS).parse();

function evaluate({ expression, contexts, status }) {
  const whole = Object.fromEntries(CONTEXTS.map(name => [name, contexts[name] ?? {}]));
  const known = { ...status, always: true };
  const functions = new Map(STATUS.map(name => [name, { name, call: () => new data.BooleanData(known[name] ?? false) }]));
  functions.set("hashfiles", { name: "hashFiles", call: () => new data.StringData("0".repeat(64)) });
  const context = JSON.parse(JSON.stringify(whole), data.reviver);
  const value = new Evaluator(parsed(expression), context, functions).evaluate();
  return { value: JSON.parse(JSON.stringify(value, data.replacer)), text: value.coerceString() };
}

// Which values an expression may read, ["secrets.TOKEN"] for instance: "*" is every one, "?" one that is named as it runs.
function accesses({ expression }) {
  const found = new Set(), literals = new Set();
  const path = node => {
    if (node instanceof ContextAccess) return node.name.lexeme;
    if (!(node instanceof IndexAccess)) return (walk(node), "()");
    let index = "?";
    if (node.index instanceof Star) index = "*";
    else if (node.index instanceof Literal) index = node.index.literal.coerceString();
    else walk(node.index);
    return `${path(node.expr)}.${index}`;
  };
  const walk = node => {
    if (node instanceof ContextAccess || node instanceof IndexAccess) found.add(path(node));
    else if (node instanceof Literal) literals.add(node.literal.coerceString());
    else for (const part of parts(node)) walk(part);
  };
  walk(parsed(expression));
  return { accesses: [...found], literals: [...literals] };
}

function parts(node) {
  if (node instanceof FunctionCall || node.args) return node.args;
  return [node.left, node.right, node.expr, node.group].filter(Boolean);
}

const ANSWERS = { workflow, action, evaluate, accesses };
async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line);
    let answer;
    try {
      answer = await ANSWERS[question.ask](question);
    } catch (error) {
      answer = { error: error.message };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
main();
