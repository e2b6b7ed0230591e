//! The generations of a module, analysed again from the ledger: same files, same order, same answers.

use std::{collections::BTreeMap, sync::Arc};

use tracing::debug;

use super::{index_of, shadow_file};
use crate::{
    error::{Error, Result},
    image::{self, Image, RelocationKind, Resolves},
    ledger::{GenerationRecord, ModuleLedger},
    model::{Addr, LoadBias, Stage},
    plan::{
        self, Objections,
        bind::{self, FunctionIdentities},
        homes::Homes,
        lineage::Lineage,
        residents::Residents,
    },
    target::link::AgentLink,
};

/// Rebuilds the lineage of the module `name`.
///
/// # Errors
/// A kept file cannot be read any more, or does not give what it gave.
pub fn replay(link: &mut AgentLink, entry: &ModuleLedger, name: &str) -> Result<Lineage> {
    let parse = |record: &GenerationRecord, before: Option<&Image>| {
        let bytes = shadow_file::read(&record.file).map_err(|source| Error::File {
            path: record.file.clone(),
            doing: "reading the kept copy of a generation",
            source,
        })?;
        Ok::<_, Error>(Arc::new(image::analyse(&record.file, bytes, before)?.0))
    };
    let mut records = entry.generations.iter();
    let first = records.next().ok_or_else(|| Error::Unsuitable {
        module: name.to_owned(),
        reason: "no copy of the file the program loaded could be kept, so there is nothing to compare with".into(),
    })?;
    let image = parse(first, None)?;
    let elsewhere = exported_elsewhere(link, &image, first.bias)?;
    let homes = Homes::of_original(&image, first.bias, first.tls_module, &elsewhere);
    let mut lineage = Lineage::new(image, first.bias, first.tls_module, homes);
    for record in records {
        let parent = index_of(&lineage, record.parent, name)?;
        lineage.revive(parent)?;
        // What was decided once is decided again; force only turned reasons into warnings.
        let image = parse(record, Some(&lineage.placed(parent).image))?;
        let plan = plan::plan(&lineage, parent, image, Objections::Settled).map_err(|reasons| Error::Refused {
            module: name.to_owned(),
            stage: Stage::Plan,
            reasons,
            remedy: "restart the target".into(),
        })?;
        let functions = FunctionIdentities::new(&plan, &lineage);
        let residents = Residents::of(&plan, &lineage, &functions);
        let code = bind::code(&plan, &functions, &residents, record.place()).map_err(|reason| Error::Image {
            path: record.file.clone(),
            stage: Stage::Bind,
            reason,
        })?;
        let placed = lineage.place(&plan, record.number, record.place(), &code);
        drop((functions, residents, plan));
        lineage.retire_all_but([parent, placed]);
    }
    Ok(lineage)
}

/// Exported statics that the process keeps elsewhere than in this module: copied into the executable by a COPY relocation,
/// or defined by another module too. The module's own GOT, as the loader filled it, says where.
fn exported_elsewhere(link: &mut AgentLink, image: &Image, bias: LoadBias) -> Result<BTreeMap<usize, Addr>> {
    let mut slots = Vec::new();
    let mut objects = Vec::new();
    for relocation in &image.tables.relocations {
        if let Resolves::Symbol { here: Some(here), addend: 0, .. } = &relocation.resolves
            && relocation.kind == RelocationKind::Address
            // A pointer among the program's state leads wherever the program has set it to.
            && !image.section_at(relocation.slot).is_some_and(|section| section.kind.is_state())
            && let Some(object) = image.object_at(*here)
            && image.objects[object].address == *here
        {
            slots.push(bias.addr(relocation.slot));
            objects.push(object);
        }
    }
    let mut elsewhere = BTreeMap::new();
    for (object, value) in objects.into_iter().zip(link.read_words(&slots)?) {
        let own = bias.addr(image.objects[object].address);
        if let Some(value) = value.filter(|value| *value != 0 && *value != own.0) {
            debug!("{} lives at {value:#x}, outside its module", image.object_name(&image.objects[object]));
            elsewhere.insert(object, Addr(value));
        }
    }
    Ok(elsewhere)
}
