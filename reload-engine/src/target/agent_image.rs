//! The agent's library, embedded, and its copy in the store that targets preload.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use twox_hash::XxHash3_128;

use crate::error::{Error, Result};

const IMAGE: &[u8] = include_bytes!(env!("RELOAD_AGENT_LIBRARY"));

/// Writes the agent into the store's root, if this version of it is not there yet. The name has the content's hash, so that
/// targets of an older dashboard keep theirs.
pub fn install(root: &Path) -> Result<PathBuf> {
    let path = root.join(format!("libreload-agent-{:032x}.so", XxHash3_128::oneshot(IMAGE)));
    if fs::symlink_metadata(&path)
        .is_ok_and(|found| found.is_file() && found.len() == IMAGE.len() as u64 && owned(&found))
    {
        return Ok(path);
    }
    let unfinished = root.join(format!(".libreload-agent-{}.so", std::process::id()));
    let failed = |doing| {
        let path = unfinished.clone();
        move |source| Error::File { path, doing, source }
    };
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("removing an unfinished copy")(error));
        }
        _ => {}
    }
    let write = |mut file: File| file.write_all(IMAGE);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o700);
    options.open(&unfinished).and_then(write).map_err(failed("writing the agent"))?;
    fs::rename(&unfinished, &path).map_err(failed("moving the agent into place"))?;
    Ok(path)
}

fn owned(metadata: &fs::Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw()
}
