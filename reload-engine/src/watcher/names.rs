//! Which names decide what a module's path means, and in which directories they lie.
//!
//! Kept by module: what one of them leads to is looked up anew when one of its names comes or goes, and the others are left
//! alone, of which there may be thousands.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::model::split_root;

#[derive(Debug, Default)]
pub struct Names {
    of: HashMap<PathBuf, Vec<PathBuf>>,
    /// To the modules it decides.
    by_name: HashMap<PathBuf, BTreeSet<PathBuf>>,
    /// The modules that a name in it decides.
    by_directory: HashMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Names {
    /// Takes these names for those that decide `module`, none if nobody asks for it any more; the directories in which its names
    /// lay or lie now.
    pub fn replace(&mut self, module: &Path, names: Vec<PathBuf>) -> BTreeSet<PathBuf> {
        let before = self.of.remove(module).unwrap_or_default();
        let directories = before.iter().chain(&names).filter_map(|name| name.parent()).map(Path::to_owned).collect();
        if before != names {
            for name in &before {
                take_out(&mut self.by_name, name, module);
                if let Some(parent) = name.parent() {
                    take_out(&mut self.by_directory, parent, module);
                }
            }
            for name in &names {
                self.by_name.entry(name.clone()).or_default().insert(module.to_owned());
                if let Some(parent) = name.parent() {
                    self.by_directory.entry(parent.to_owned()).or_default().insert(module.to_owned());
                }
            }
        }
        if !names.is_empty() {
            self.of.insert(module.to_owned(), names);
        }
        directories
    }

    /// The file that the module's path leads to, or the first name on the way that does not exist.
    pub fn file_of(&self, module: &Path) -> Option<&PathBuf> {
        self.of.get(module)?.last()
    }

    /// The modules that this name decides.
    pub fn decided_by(&self, name: &Path) -> Option<&BTreeSet<PathBuf>> {
        self.by_name.get(name)
    }

    /// The modules that a name in this directory decides.
    pub fn in_directory(&self, directory: &Path) -> Option<&BTreeSet<PathBuf>> {
        self.by_directory.get(directory)
    }
}

fn take_out(sets: &mut HashMap<PathBuf, BTreeSet<PathBuf>>, key: &Path, module: &Path) {
    if let Some(modules) = sets.get_mut(key) {
        modules.remove(module);
        if modules.is_empty() {
            sets.remove(key);
        }
    }
}

/// Every name that decides which file `path` leads to: each symbolic link on the way, then the file itself, or else the
/// first name that does not exist. Each has a parent that exists and is free of links.
pub fn deciding_names(path: &Path) -> Vec<PathBuf> {
    /// As in the kernel (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let mut names = Vec::new();
    let mut links = 0;
    // Where an absolute link leads from.
    let (root, path) = split_root(path);
    let mut at = root.to_owned();
    let mut rest: VecDeque<PathBuf> = path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    while let Some(part) = rest.pop_front() {
        match part.components().next() {
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                let Ok(metadata) = fs::symlink_metadata(&next) else {
                    names.push(next);
                    return names;
                };
                if metadata.is_symlink() {
                    names.push(next.clone());
                    links += 1;
                    let Ok(target) = fs::read_link(&next) else { return names };
                    if links > MOST_LINKS {
                        return names;
                    }
                    for part in target.components().rev() {
                        rest.push_front(PathBuf::from(part.as_os_str()));
                    }
                } else if rest.is_empty() {
                    names.push(next);
                } else {
                    at = next;
                }
            }
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::RootDir | Component::Prefix(_)) => at = root.to_owned(),
            Some(Component::CurDir) | None => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::PathBuf};

    use super::Names;

    #[test]
    fn names_and_directories_go_with_the_last_module_that_needs_them() {
        let mut names = Names::default();
        let mut replace = |module: &str, of: &[&str]| -> String {
            let of = of.iter().map(PathBuf::from).collect();
            let directories: Vec<String> =
                names.replace(module.as_ref(), of).iter().map(|path| path.display().to_string()).collect();
            let count = |path: &str| {
                let sets = [names.decided_by(path.as_ref()), names.in_directory(path.as_ref())];
                sets.map(|set| set.map_or(0, BTreeSet::len)).iter().sum::<usize>()
            };
            format!("{} {:?}", directories.join(" "), ["/p/link", "/p/a.so", "/p", "/q", "/q/b.so"].map(count))
        };
        assert_eq!(replace("a", &["/p/link", "/p/a.so"]), "/p [1, 1, 1, 0, 0]");
        assert_eq!(replace("b", &["/p/link", "/q/b.so"]), "/p /q [2, 1, 2, 1, 1]");
        assert_eq!(replace("b", &["/p/link", "/q/b.so"]), "/p /q [2, 1, 2, 1, 1]", "the same again");
        assert_eq!(replace("b", &["/q/b.so"]), "/p /q [1, 1, 1, 1, 1]");
        assert_eq!(replace("a", &[]), "/p [0, 0, 0, 1, 1]");
        assert_eq!(replace("a", &[]), " [0, 0, 0, 1, 1]", "nobody knows it any more");
    }
}
