//! Where the file lies, reading and writing it. Small and local, but I/O: the window leaves it to its worker.

use std::{
    env, fmt, fs, io,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Change, Config, Flaw, edited, parse};

const NAME: &str = "reload-dashboard.toml";

/// The file, and what it says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    pub path: PathBuf,
    pub config: Config,
}

/// Why the file is of no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub path: PathBuf,
    /// Counted from 1, where the text is to blame.
    pub line: Option<usize>,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.reason),
            None => write!(f, "{}: {}", self.path.display(), self.reason),
        }
    }
}

/// Finds and reads the file; none is as good as an empty one.
///
/// # Errors
/// It cannot be read, belongs to somebody else, or has a flaw.
pub fn read() -> Result<Found, Problem> {
    let path = place();
    let text = text(&path)?;
    let config = parse(&text).map_err(|flaw| blamed(&path, flaw))?;
    Ok(Found { path, config })
}

/// Writes one decision about `program` into the file as it is now, making it where it is missing.
///
/// # Errors
/// As [`read`], or it cannot be written; says also what that means for the decision.
pub fn remember(program: &str, change: &Change) -> Result<Found, Problem> {
    write(program, change).map_err(|problem| Problem {
        reason: format!("{}; until that is mended, what is decided here ends with the program", problem.reason),
        ..problem
    })
}

fn write(program: &str, change: &Change) -> Result<Found, Problem> {
    let path = place();
    let before = text(&path)?;
    let after = edited(&before, program, change).map_err(|flaw| blamed(&path, flaw))?;
    let config = parse(&after).map_err(|flaw| blamed(&path, flaw))?;
    if after != before {
        replace(&path, &after).map_err(|error| Problem {
            path: path.clone(),
            line: None,
            reason: format!("cannot be written: {error}"),
        })?;
    }
    Ok(Found { path, config })
}

fn blamed(path: &Path, Flaw { line, message }: Flaw) -> Problem {
    Problem { path: path.to_owned(), line: Some(line), reason: message }
}

/// The nearest file from the working directory upward, else the user's own.
fn place() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    nearest(&here).unwrap_or_else(|| folder().join(NAME))
}

fn nearest(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file())
}

/// `$XDG_CONFIG_HOME/reload-dashboard`, else `~/.config/reload-dashboard`.
fn folder() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    base.unwrap_or_else(env::temp_dir).join("reload-dashboard")
}

fn text(path: &Path) -> Result<String, Problem> {
    let problem = |reason: String| Problem { path: path.to_owned(), line: None, reason };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(problem(format!("cannot be read: {error}"))),
    };
    // It names commands that are run: not from whoever can write into a folder above ours.
    let user = nix::unistd::geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(problem("belongs to another user, so it is not followed".to_owned()));
    }
    fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))
}

/// Whole or not at all, also for an editor that has the file open. A link stays a link.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(metadata) = fs::metadata(&path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.persist(&path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{NAME, nearest, replace, text};

    #[test]
    fn the_nearest_file_upward_counts() {
        let room = tempfile::tempdir().unwrap();
        let deep = room.path().join("project/build/debug");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(nearest(&deep), None);
        fs::write(room.path().join(NAME), "").unwrap();
        assert_eq!(nearest(&deep), Some(room.path().join(NAME)));
        let own = room.path().join("project").join(NAME);
        fs::write(&own, "").unwrap();
        assert_eq!(nearest(&deep), Some(own));
    }

    #[test]
    fn files_are_replaced_whole_and_links_stay_links() {
        let room = tempfile::tempdir().unwrap();
        let real = room.path().join("dotfiles.toml");
        let link = room.path().join(NAME);
        fs::write(&real, "auto = \"off\"\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace(&link, "auto = \"all\"\n").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(text(&real).unwrap(), "auto = \"all\"\n");
        assert_eq!(text(&room.path().join("absent")).unwrap(), "");
        let new = room.path().join("made/on/the/way").join(NAME);
        replace(&new, "x").unwrap();
        assert_eq!(fs::read_dir(new.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn somebody_elses_file_is_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: somebody_elses_file_is_not_followed: only root can give a file away");
            return;
        }
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join(NAME);
        fs::write(&path, "editor = 'rm -rf /'\n").unwrap();
        assert!(text(&path).is_ok());
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(text(&path).unwrap_err().reason.contains("another user"));
    }
}
