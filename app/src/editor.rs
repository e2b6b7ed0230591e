//! Which command opens a source at a line: the user's own, `$VISUAL`, or the first of the usual ones that is installed. Pure
//! but for [`open`], which starts it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What opening depends on, besides the place.
struct Surroundings<'a> {
    /// `editor` of the user's file.
    configured: Option<&'a str>,
    visual: Option<String>,
    is_installed: &'a dyn Fn(&str) -> bool,
}

/// Opens `file` at `line`, without waiting for the editor's end.
///
/// # Errors
/// One line with the remedy.
pub fn open(configured: Option<&str>, file: &Path, line: u32) -> Result<(), String> {
    let surroundings = Surroundings {
        configured,
        visual: env::var("VISUAL").ok().filter(|visual| !visual.trim().is_empty()),
        is_installed: &|program| find(program).is_some(),
    };
    let words = surroundings.command(file, line)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}; {REMEDY}", words[0].display()))?;
    // Collected when it ends, however long that takes.
    std::thread::spawn(move || child.wait());
    Ok(())
}

const REMEDY: &str = "set `editor = \"code -g {file}:{line}\"` or the like in reload-dashboard.toml, or $VISUAL";

/// On the search path, or where it says.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Editors that live in a terminal.
const IN_TERMINAL: [&str; 8] = ["vi", "vim", "nvim", "nano", "micro", "hx", "helix", "kak"];
const TERMINALS: [&str; 5] = ["x-terminal-emulator", "kitty", "foot", "alacritty", "xterm"];
/// Tried in this order where nothing else is said.
const USUAL: [&str; 6] = ["code", "codium", "zed", "subl", "kate", "gvim"];

impl Surroundings<'_> {
    fn command(&self, file: &Path, line: u32) -> Result<Vec<OsString>, String> {
        if let Some(configured) = self.configured {
            let words = shlex::split(configured).filter(|words| !words.is_empty());
            let words = words.ok_or_else(|| format!("`editor` is no command: {configured}; {REMEDY}"))?;
            return Ok(filled(&words, file, line));
        }
        if let Some(words) = self.visual.as_deref().and_then(shlex::split)
            && let Some(program) = words.first()
        {
            let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut command: Vec<OsString> = words.iter().map(OsString::from).collect();
            command.extend(arguments(&name, file, line));
            if !IN_TERMINAL.contains(&name.as_str()) {
                return Ok(command);
            }
            let terminal = TERMINALS.into_iter().find(|terminal| (self.is_installed)(terminal));
            let terminal = terminal.ok_or_else(|| format!("$VISUAL, {name}, needs a terminal window; {REMEDY}"))?;
            let start = if terminal == "kitty" || terminal == "foot" { vec![terminal] } else { vec![terminal, "-e"] };
            return Ok(start.into_iter().map(OsString::from).chain(command).collect());
        }
        let usual = USUAL.into_iter().find(|program| (self.is_installed)(program));
        let usual = usual.ok_or_else(|| format!("there is no editor known here; {REMEDY}"))?;
        Ok(std::iter::once(usual.into()).chain(arguments(usual, file, line)).collect())
    }
}

/// The user's words with the place put in, or behind them where they do not say where.
fn filled(words: &[String], file: &Path, line: u32) -> Vec<OsString> {
    let name = file.to_string_lossy();
    let mut command: Vec<OsString> =
        words.iter().map(|word| word.replace("{file}", &name).replace("{line}", &line.to_string()).into()).collect();
    if !words.iter().any(|word| word.contains("{file}")) {
        command.push(file.into());
    }
    command
}

/// How this editor is told file and line.
fn arguments(editor: &str, file: &Path, line: u32) -> Vec<OsString> {
    let place = || -> OsString { format!("{}:{line}", file.display()).into() };
    match editor {
        "code" | "code-insiders" | "codium" | "cursor" | "windsurf" => vec!["-g".into(), place()],
        "subl" | "zed" | "zeditor" | "hx" | "helix" | "micro" | "atom" | "lapce" => vec![place()],
        "kate" | "idea" | "clion" | "rustrover" => {
            vec!["--line".into(), line.to_string().into(), file.into()]
        }
        "vi" | "vim" | "nvim" | "gvim" | "nano" | "kak" | "emacs" | "emacsclient" | "gedit" | "gnome-text-editor" => {
            vec![format!("+{line}").into(), file.into()]
        }
        _ => vec![file.into()],
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Surroundings;

    fn check(configured: Option<&str>, visual: Option<&str>, installed: &[&str], expected: &str) {
        let is_installed = |program: &str| installed.contains(&program);
        let around = Surroundings { configured, visual: visual.map(str::to_owned), is_installed: &is_installed };
        let told = match around.command(Path::new("/src/my world.rs"), 31) {
            Ok(words) => words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join("|"),
            Err(reason) => reason,
        };
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn the_users_command_comes_first() {
        check(Some("code -r -g {file}:{line}"), Some("vim"), &["zed"], "code|-r|-g|/src/my world.rs:31");
        check(Some("'my editor' --at {line}"), None, &[], "my editor|--at|31|/src/my world.rs");
    }

    #[test]
    fn visual_is_told_the_line_in_its_own_way() {
        check(None, Some("codium --wait"), &[], "codium|--wait|-g|/src/my world.rs:31");
        check(None, Some("/usr/bin/gvim"), &["code"], "/usr/bin/gvim|+31|/src/my world.rs");
        check(None, Some("mousepad"), &["code"], "mousepad|/src/my world.rs");
        check(None, Some("kate"), &[], "kate|--line|31|/src/my world.rs");
    }

    #[test]
    fn editors_of_the_terminal_get_one() {
        check(None, Some("vim"), &["xterm"], "xterm|-e|vim|+31|/src/my world.rs");
        check(None, Some("nvim"), &["kitty"], "kitty|nvim|+31|/src/my world.rs");
        check(None, Some("vim"), &["code"], "$VISUAL, vim, needs a terminal window; set `editor");
    }

    #[test]
    fn otherwise_one_that_is_installed() {
        check(None, None, &["kate", "code"], "code|-g|/src/my world.rs:31");
        check(None, None, &[], "there is no editor known here; set `editor");
    }
}
