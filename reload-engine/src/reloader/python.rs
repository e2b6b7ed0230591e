//! Python extensions: what the adapter in the target is asked for, and what its answers mean.
//!
//! What happens inside the interpreter is the adapter's business (`reload-python`); it is loaded only for modules that export
//! a `PyInit_` function.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tracing::debug;
use twox_hash::XxHash3_128;

use crate::{
    error::{Error, Result},
    image::demangle,
    ledger::GenerationRecord,
    model::{Generation, LoadBias, Outcome, Receipt, Stage},
    plan::{Plan, bind::FunctionIdentities, homes::Home, lineage::Lineage, registration},
    target::{link::AgentLink, store},
};

const LIBRARY: &[u8] = include_bytes!(env!("RELOAD_PYTHON_LIBRARY"));

/// Writes the adapter into `folder`, of the target's store, if it is not there yet.
pub fn install(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("libreload-python-{:032x}.so", XxHash3_128::oneshot(LIBRARY)));
    store::put(&path, LIBRARY).map_err(|source| Error::File {
        path: path.clone(),
        doing: "writing the adapter for Python",
        source,
    })?;
    Ok(path)
}

/// The input for a reload with `plan`, loaded as `record` says. `module` and `name` are as the target knows them: the module's
/// path, and what the loader calls the shadow.
pub fn to_reload(
    plan: &Plan,
    lineage: &Lineage,
    functions: &FunctionIdentities,
    module: &Path,
    record: &GenerationRecord,
    name: &str,
) -> Vec<u8> {
    let image = &*plan.image;
    let statics: Vec<Value> = plan
        .homes
        .kept
        .iter()
        .filter_map(|index| {
            let object = &image.objects[*index];
            let Home::At(home) = plan.homes.objects[*index] else { return None };
            let name = demangle(image.object_name(object));
            Some(json!([name, home.0, object.size, record.bias.addr(object.address).0]))
        })
        .collect();
    let identities: Vec<(u64, u64)> = (image.functions.iter().enumerate())
        .filter_map(|(index, function)| Some((record.bias.addr(function.address).0, functions.of(index)?.0)))
        .collect();
    let constant = image.tables.relro.clone().unwrap_or_default();
    let writable = image.tables.segments.iter().filter(|segment| segment.writable);
    let own: Vec<(u64, u64)> = writable
        .flat_map(|segment| without(segment.address..segment.address + segment.memory_size, &constant))
        .map(|range| (record.bias.0.wrapping_add(range.start), record.bias.0.wrapping_add(range.end)))
        .collect();
    let mut input = common(lineage, module, record.number, registration::python_modules(image));
    input["images"].as_array_mut().into_iter().for_each(|images| images.push(span(image.span(), record.bias)));
    input["action"] = json!("reload");
    input["file"] = json!(name);
    input["parent"] = json!(record.parent.0);
    input["statics"] = json!(statics);
    input["identities"] = json!(identities);
    input["own"] = json!(own);
    input.to_string().into_bytes()
}

/// The input for the way back to generation `to`; `module` as in [`to_reload`].
pub fn to_roll_back(lineage: &Lineage, module: &Path, to: Generation) -> Vec<u8> {
    let image = &lineage.placed(0).image;
    let mut input = common(lineage, module, to, registration::python_modules(image));
    input["action"] = json!("rollback");
    input["identities"] = json!([]);
    input.to_string().into_bytes()
}

fn common(lineage: &Lineage, module: &Path, generation: Generation, modules: Vec<String>) -> Value {
    let images: Vec<Value> = lineage.all().iter().map(|placed| span(placed.image.span(), placed.bias)).collect();
    json!({ "library": module, "generation": generation.0, "modules": modules, "images": images })
}

fn span(span: Range<u64>, bias: LoadBias) -> Value {
    json!([bias.0.wrapping_add(span.start), bias.0.wrapping_add(span.end)])
}

/// What is left of `range` beside `hole`.
fn without(range: Range<u64>, hole: &Range<u64>) -> Vec<Range<u64>> {
    let before = range.start..hole.start.clamp(range.start, range.end);
    let after = hole.end.clamp(range.start, range.end)..range.end;
    [before, after].into_iter().filter(|part| !part.is_empty()).collect()
}

/// Has the interpreter prepare, and holds it until the commit or [`AgentLink::end`].
///
/// # Errors
/// What the adapter refuses, or what went wrong in it; nothing that Python sees has changed.
pub fn prepare(link: &mut AgentLink, adapter: &Path, name: &str, input: Vec<u8>, receipt: &mut Receipt) -> Result<()> {
    let words = link.adapt(adapter, input).map_err(|error| match error {
        Error::Agent(message) => Error::Adapter { module: name.to_owned(), message, trace: Vec::new() },
        other => other,
    })?;
    understand(&String::from_utf8_lossy(&words), name, receipt)
}

/// As [`prepare`], for a way back that is gone anyway.
pub fn prepare_to_take_back(link: &mut AgentLink, adapter: &Path, name: &str, input: Vec<u8>) {
    let mut receipt = Receipt::empty(name, Outcome::Failed, Generation(0));
    if let Err(error) = prepare(link, adapter, name, input, &mut receipt) {
        debug!("{name}: what Python sees was not taken back: {error}");
    }
}

/// Waits until the interpreter has gone on, and notes what went wrong after the commit, if anything.
pub fn finish(link: &mut AgentLink, receipt: &mut Receipt) {
    match link.adapted() {
        Ok(words) => {
            let words = String::from_utf8_lossy(&words).into_owned();
            receipt
                .warnings
                .extend(lines(&words).filter(|(kind, _)| *kind == "warning").map(|(_, text)| text.to_owned()));
        }
        Err(error) => receipt.warnings.push(format!("the interpreter does not tell how it went on: {error}")),
    }
}

/// One `kind TAB text` per line.
fn lines(words: &str) -> impl Iterator<Item = (&str, &str)> {
    words.lines().filter_map(|line| line.split_once('\t'))
}

fn understand(words: &str, name: &str, receipt: &mut Receipt) -> Result<()> {
    let of = |kind: &str| -> Vec<String> {
        lines(words).filter(|(found, _)| *found == kind).map(|(_, text)| text.to_owned()).collect()
    };
    if let Some(message) = of("failed").into_iter().next() {
        return Err(Error::Adapter { module: name.to_owned(), message, trace: of("trace") });
    }
    let reasons = of("refused");
    if !reasons.is_empty() {
        let remedy = "change the code so that this holds, or restart the interpreter".to_owned();
        return Err(Error::Refused { module: name.to_owned(), stage: Stage::Adapt, reasons, remedy });
    }
    receipt.warnings.extend(of("warning"));
    let python = &mut receipt.details.python;
    python.modules = of("module");
    python.added = [of("added"), of("class added")].concat();
    python.removed = [of("removed"), of("class removed")].concat();
    python.updated = of("updated");
    python.types = of("type");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{understand, without};
    use crate::{
        error::Error,
        model::{Generation, Outcome, Receipt},
    };

    fn check(words: &str) -> (Result<(), Error>, Receipt) {
        let mut receipt = Receipt::empty("m.so", Outcome::Reloaded, Generation(1));
        (understand(words, "m.so", &mut receipt), receipt)
    }

    #[test]
    fn what_the_adapter_says() {
        let (result, receipt) = check("module\tm\nadded\tf\nclass added\tC\nremoved\tC.g\nwarning\tw\ntype\tC\n");
        result.unwrap();
        let python = receipt.details.python;
        assert_eq!((python.modules.len(), python.added.len(), python.removed.len()), (1, 2, 1));
        assert_eq!(receipt.warnings, ["w"]);
        let (result, _) = check("failed\tPyInit_m raised\ntrace\tTraceback\ntrace\t  line\n");
        assert!(matches!(result, Err(Error::Adapter { trace, .. }) if trace == ["Traceback", "  line"]));
        let (result, _) = check("refused\tC grew\n");
        assert!(matches!(result, Err(Error::Refused { reasons, .. }) if reasons == ["C grew"]));
    }

    #[test]
    fn holes() {
        let check = |range: std::ops::Range<u64>, hole, left: &[std::ops::Range<u64>]| {
            assert_eq!(without(range, &hole), left);
        };
        check(0..10, 2..4, &[0..2, 4..10]);
        check(5..10, 2..7, std::slice::from_ref(&(7..10)));
        check(5..10, 0..0, std::slice::from_ref(&(5..10)));
    }
}
