//! What a rule or a host is given: steps, and the headers of each block with those around it.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{Script, ScriptBlock, Step};

use super::compile::{Compiled, Part};
use super::maps::Map;

/// The script of a place. `around`: what holds outside of it (`http`, then the server), of which headers are
/// inherited; steps are not.
pub fn script(own: &Compiled, around: &[&Compiled], maps: &BTreeMap<String, Map>) -> Option<Script> {
    let outer: Vec<&Part> = around.iter().filter_map(|compiled| compiled.parts.first()).collect();
    let blocks: Vec<ScriptBlock> = (0..own.parts.len()).map(|part| block(own, part, &outer)).collect();
    let empty = blocks.iter().all(|block| *block == ScriptBlock::default());
    let access = if own.access.is_empty() {
        // Lines of a location take the place of those around it.
        around.iter().rev().find(|outer| !outer.access.is_empty()).map(|outer| outer.access.clone())
    } else {
        Some(own.access.clone())
    };
    let mut variables: Vec<String> = around.iter().flat_map(|outer| outer.variables.clone()).collect();
    variables.extend(own.variables.iter().cloned());
    let mut script = Script {
        variables,
        steps: own.steps.clone(),
        blocks: if empty { Vec::new() } else { blocks },
        access: access.unwrap_or_default(),
        limit_except: own.limit_except.clone(),
    };
    let (names, steps) = map_steps(&script, maps);
    script.variables.extend(names);
    script.variables.sort();
    script.variables.dedup();
    script.steps.splice(0..0, steps);
    (!script.steps.is_empty()
        || !script.blocks.is_empty()
        || !script.access.is_empty()
        || script.limit_except.is_some())
    .then_some(script)
}

/// The headers of a block. As in nginx `add_header` and `expires` inside take the place of those outside, the
/// `more_…` come after them.
fn block(own: &Compiled, part: usize, outer: &[&Part]) -> ScriptBlock {
    let mut chain: Vec<&Part> = Vec::new();
    let mut at = part;
    while let Some(found) = own.parts.get(at) {
        chain.push(found);
        if at == 0 {
            break;
        }
        at = found.parent;
    }
    chain.extend(outer.iter().rev().copied());
    chain.reverse();
    let innermost = |has: fn(&&&Part) -> bool| chain.iter().rev().find(has).copied();
    let mut answers: Vec<_> = chain.iter().flat_map(|part| part.more.clone()).collect();
    answers.extend(
        innermost(|part| part.expires.is_some()).and_then(|part| part.expires.clone()).unwrap_or_default(),
    );
    answers
        .extend(innermost(|part| !part.added.is_empty()).map(|part| part.added.clone()).unwrap_or_default());
    ScriptBlock {
        input_headers: chain.iter().flat_map(|part| part.inputs.clone()).collect(),
        request_headers: innermost(|part| !part.requests.is_empty())
            .map(|part| part.requests.clone())
            .unwrap_or_default(),
        response_headers: answers,
    }
}

/// The maps whose variables a script names, and the steps that set them: those that others look up come first.
pub fn map_steps(script: &Script, maps: &BTreeMap<String, Map>) -> (Vec<String>, Vec<Step>) {
    let text = serde_json::to_string(script).unwrap_or_default();
    let mut wanted: Vec<&str> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut look_into = vec![text.as_str()];
    while let Some(text) = look_into.pop() {
        for (name, map) in maps {
            if names(text, name) && seen.insert(name) {
                wanted.push(name);
                look_into.push(map.source());
            }
        }
    }
    wanted.reverse();
    let steps = wanted.iter().filter_map(|name| Some(maps.get(*name)?.steps(name))).flatten().collect();
    (wanted.into_iter().map(str::to_owned).collect(), steps)
}

/// Whether a text names a variable.
pub fn names(text: &str, variable: &str) -> bool {
    text.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.strip_prefix(variable)
            .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}
