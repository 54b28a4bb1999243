//! Derives a script's verdict from its edits and calls.

use std::collections::BTreeMap;

use serde_json::Value;

use super::RhaiPolicy;
use super::document::Edit;
use super::fields;
use super::library::Context;
use super::shape::Shape;
use crate::hooks::adjust::{diff, diff_exec};
use crate::hooks::{Hook, HookRequest, PolicyError, Subject, Verdict};

impl RhaiPolicy {
    /// Returns the verdict of a successful call, and the line that set each field.
    pub(super) fn verdict(
        &self,
        request: &HookRequest,
        ctx: &Context,
    ) -> Result<(Verdict, BTreeMap<String, usize>), PolicyError> {
        let (mut root, edits) = ctx.document.finish();
        let asked = std::mem::take(&mut *ctx.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let (hook, name) = (request.hook, &self.name);
        let misplaced = |what: &str| PolicyError::new("bad-answer", format!("{name}: {what} is not allowed at {hook}"));
        if !asked.verdicts.is_empty() && hook != Hook::Cleanup {
            return Err(misplaced("ctx.keep, ctx.stop(id, reason) or ctx.remove"));
        }
        if !asked.actions.is_empty() && !matches!(hook, Hook::PostStart | Hook::PreStop | Hook::Event) {
            return Err(misplaced("ctx.run, ctx.note or ctx.stop"));
        }
        // Parsing a whole spec back costs more than the script's own work.
        let mut edited = |key: &str| root.get_mut(key).map(Value::take).unwrap_or_default();
        let adjustments = match (hook, &request.subject) {
            (Hook::PostStart | Hook::PreStop | Hook::Event, _) => {
                let verdict = match asked.actions.is_empty() && asked.delay_ms.is_none() {
                    true => Verdict::Pass,
                    false => Verdict::Act { actions: asked.actions, delay_ms: asked.delay_ms },
                };
                return Ok((verdict, BTreeMap::new()));
            }
            (Hook::Cleanup, _) => {
                let verdict = match asked.verdicts.is_empty() {
                    true => Verdict::Pass,
                    false => Verdict::Sweep(asked.verdicts),
                };
                return Ok((verdict, BTreeMap::new()));
            }
            _ if edits.is_empty() => Vec::new(),
            (Hook::PreExec, Subject::Exec(before)) => {
                diff_exec(before, &self.read_back(edited("exec"), ("exec", hook), &edits)?)
            }
            _ => diff(&request.spec, &self.read_back(edited("spec"), ("spec", hook), &edits)?),
        };
        if adjustments.is_empty() {
            return Ok((Verdict::Pass, BTreeMap::new()));
        }
        let lines = adjustments.iter().filter_map(|adjustment| {
            let field = adjustment.field();
            line_of(&edits, &field).map(|line| (field, line))
        });
        let lines = lines.collect();
        Ok((Verdict::Adjust(adjustments), lines))
    }

    /// Parses an edited value back to its type. An error names the field and the line that set it.
    fn read_back<T: serde::de::DeserializeOwned>(
        &self,
        value: Value,
        (root, hook): (&str, Hook),
        edits: &[Edit],
    ) -> Result<T, PolicyError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let field = error.path().to_string();
            let at = match line_of(edits, &field) {
                Some(line) => format!("{}:{line}", self.name),
                None => self.name.clone(),
            };
            let path = format!("{root}.{field}");
            let sample = Shape::of(hook).at(&path).map(|shape| shape.value);
            let text = fields::refused(&path, sample.as_ref(), &error.inner().to_string());
            PolicyError::new("bad-answer", format!("{at}: {text}"))
        })
    }
}

/// Returns the line of the last edit at, above or below a field. The first key of an edit's path (`spec`) is not part
/// of the field.
fn line_of(edits: &[Edit], field: &str) -> Option<usize> {
    edits.iter().rev().filter(|edit| edit.line > 0).find_map(|edit| {
        let path = edit.path.get(1..)?.join(".");
        let related = path == field
            || field.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'))
            || path.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'));
        related.then_some(edit.line)
    })
}

/// Returns a description of how a script answers at a hook.
pub(super) fn answers(hook: Hook) -> &'static str {
    match hook {
        Hook::SelectImage => "calls ctx.choose(reference, reason) or ctx.deny(code, reason)",
        Hook::SecurityProfile | Hook::PreCreate => "changes ctx.spec or calls ctx.deny(code, reason)",
        Hook::PreExec => "changes ctx.exec or calls ctx.deny(code, reason)",
        Hook::PostStart | Hook::Event => "calls ctx.run(words), ctx.note(text) or ctx.stop(why)",
        Hook::PreStop => "calls ctx.run(words), ctx.note(text), ctx.stop(why) or ctx.delay(ms)",
        Hook::Cleanup => "calls ctx.keep(id, why), ctx.stop(id, why) or ctx.remove(id, why)",
    }
}
