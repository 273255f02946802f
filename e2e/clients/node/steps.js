// One line for each step of a program: `step: outcome`. The first word of a step says what kind it is.
'use strict';
const { dependencies: pinned } = require('./package.json');

/** The first line: what is tested. package.json pins it. */
function versions(...packages) {
  console.log(`# versions: ${packages.map((name) => `${name} ${pinned[name]}`).join(', ')}`);
}

/** As text that is the same in every run: keys sorted, buffers as hexadecimal, dates in UTC. */
function shown(value) {
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `0x${Buffer.from(value).toString('hex')}`;
  if (Array.isArray(value)) return `[${value.map(shown).join(', ')}]`;
  if (typeof value === 'string') return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  if (value !== null && typeof value === 'object') {
    if (typeof value.toJSON === 'function') return shown(value.toJSON());
    return `{${Object.keys(value).sort().map((key) => `${key}: ${shown(value[key])}`).join(', ')}}`;
  }
  return String(value);
}

/** The SQLSTATE of a driver's error, whatever wraps it; undefined if it has none. */
function state(error) {
  for (let at = error; at; at = at.cause ?? at.original ?? at.driverError) {
    const code = at.originalCode ?? at.code;
    if (/^[0-9A-Z]{5}$/.test(code ?? '')) return code;
  }
  return undefined;
}

function report(name, outcome) {
  console.log(`${name}: ${shown(outcome)}`);
}

function failed(name, error) {
  report(name, `FAILED ${error?.name} ${state(error)} ${error?.message ?? error}`);
}

/** Runs a step; what it returns is its outcome. */
async function step(name, call) {
  try {
    report(name, await call());
  } catch (error) {
    failed(name, error);
  }
}

/** A step that the server refuses: its outcome is the SQLSTATE. */
async function expect(name, call) {
  try {
    await call();
  } catch (error) {
    return state(error) ? report(name, state(error)) : failed(name, error);
  }
  return report(name, 'FAILED no error');
}

/** Runs a program to its end. */
function main(program) {
  program().catch((error) => {
    failed('program', error);
    process.exitCode = 1;
  });
}

module.exports = { versions, shown, state, report, step, expect, main };
