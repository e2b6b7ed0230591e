//! What kind of module a path is, which decides what happens to it unmarked.
//!
//! By path and file name alone: no file is opened here, so the same answer comes for a module whose file is gone.

use std::path::Path;

use crate::model::{Class, file_name, split_root};

/// Where distributions install; whatever lies here comes from a package, not from the user's build.
const SYSTEM_ROOTS: &[&str] =
    &["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/nix", "/gnu", "/snap", "/run/host"];

/// Inside those, what users build and install themselves is still a package to us, except in these.
const PROJECT_ROOTS: &[&str] = &["/usr/src", "/opt/src"];

/// Folders of installed packages, wherever they lie.
const PACKAGES: &[&str] = &["site-packages", "dist-packages", "node_modules", ".rustup"];

/// The loader, libc and what shares its private interface (`GLIBC_PRIVATE`), by the part of the file name before `.so` or
/// `-2.31.so`: code that every thread may stand in, and that the agent itself runs on.
const PROTECTED: &[&str] = &[
    "ld",
    "ld-linux",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "ld-musl-x86_64",
    "ld64",
    "libBrokenLocale",
    "libanl",
    "libc",
    "libc_malloc_debug",
    "libdl",
    "libgcc_s",
    "libm",
    "libmvec",
    "libnsl",
    "libpthread",
    "libresolv",
    "librt",
    "libthread_db",
    "libutil",
];

/// Classifies the module loaded from `path`; `store` is the store's root, where the agent lies.
pub fn classify(path: &Path, executable: &Path, store: &Path) -> Class {
    if path == executable {
        return Class::Executable;
    }
    // The vdso has a name and no file.
    if !path.is_absolute() || path.starts_with(store) {
        return Class::Protected;
    }
    let (_, path) = split_root(path);
    let name = file_name(path);
    if (name.starts_with("libreload_agent") || name.starts_with("libreload-agent")) || protected(&name) {
        return Class::Protected;
    }
    let under = |roots: &[&str]| roots.iter().any(|root| path.starts_with(root));
    let packaged = path.iter().any(|part| PACKAGES.iter().any(|package| part == *package));
    if (under(SYSTEM_ROOTS) && !under(PROJECT_ROOTS)) || packaged { Class::System } else { Class::Project }
}

/// `libc.so.6`, `libc-2.31.so`, `ld-linux-x86-64.so.2`.
fn protected(name: &str) -> bool {
    let Some((stem, _)) = name.split_once(".so") else { return false };
    let unversioned = match stem.split_once("-2.") {
        Some((stem, version)) if version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => stem,
        _ => stem,
    };
    PROTECTED.contains(&unversioned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::classify;
    use crate::model::Class;

    fn check(path: &str, expected: Class) {
        let found = classify(
            Path::new(path),
            Path::new("/home/me/app/target/debug/app"),
            Path::new("/run/user/7/reload-dashboard"),
        );
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn classes() {
        check("/home/me/app/target/debug/app", Class::Executable);
        check("/home/me/app/target/debug/libscene.so", Class::Project);
        check("/tmp/build/libfoo.so.1.2", Class::Project);
        check("/var/lib/app/plugin.so", Class::Project);
        check("/library/libfoo.so", Class::Project);
        check("/usr/src/app/build/libfoo.so", Class::Project);
        // What people build for a container lies there more often than what a sandbox has brought along.
        check("/app/libfoo.so", Class::Project);
        check("/proc/77/root/app/libfoo.so", Class::Project);
        check("/proc/77/root/usr/lib/libfoo.so", Class::System);
        check("/usr/lib/x86_64-linux-gnu/libssl.so.3", Class::System);
        check("/lib/x86_64-linux-gnu/libz.so.1", Class::System);
        check("/usr/local/lib/libfoo.so", Class::System);
        check("/opt/vendor/libfoo.so", Class::System);
        check("/usr/lib/x86_64-linux-gnu/libcurl.so.4", Class::System);
        check("/usr/lib/x86_64-linux-gnu/libc++.so.1", Class::System);
        check("/home/me/venv/lib/python3.11/site-packages/numpy/core/_multiarray.so", Class::System);
        check("/home/me/.rustup/toolchains/stable/lib/libstd-00.so", Class::System);
    }

    #[test]
    fn loader_libc_and_kin_are_protected_wherever_they_lie() {
        check("linux-vdso.so.1", Class::Protected);
        check("/lib64/ld-linux-x86-64.so.2", Class::Protected);
        check("/lib/x86_64-linux-gnu/libc.so.6", Class::Protected);
        check("/lib/x86_64-linux-gnu/libc-2.31.so", Class::Protected);
        check("/lib/x86_64-linux-gnu/libm.so.6", Class::Protected);
        check("/lib/x86_64-linux-gnu/libpthread.so.0", Class::Protected);
        check("/lib/x86_64-linux-gnu/libgcc_s.so.1", Class::Protected);
        check("/home/me/sysroot/lib/libc.so.6", Class::Protected);
        check("/home/me/dev/target/agent/libreload_agent.so", Class::Protected);
        check("/elsewhere/libreload-agent-00.so", Class::Protected);
    }
}
