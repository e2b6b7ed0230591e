//! One decision written into the text of the file; comments, order and spacing of the rest stay as the user left them. Pure.

use reload_engine::model::{Mark, Mode};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

use super::{Flaw, parse};

/// A decision made in the window about one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Auto(Mode),
    /// A module as [`super::name_of`] calls it.
    Mark {
        module: String,
        mark: Mark,
    },
    Launch(Vec<String>),
}

/// The text with the decision in it; the same text where it says so already.
///
/// # Errors
/// The text has a flaw: it is for the user to mend, not to be written over.
pub fn edited(text: &str, program: &str, change: &Change) -> Result<String, Flaw> {
    let before = parse(text)?;
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        // `parse` has just read the same text.
        Flaw::at(text, error.span(), error.message())
    })?;
    let now = before.of(program);
    match change {
        Change::Auto(mode) if now.auto.unwrap_or_default() == *mode => return Ok(text.to_owned()),
        Change::Auto(mode) if before.auto == Some(*mode) => {
            // What holds for all programs suits this one again.
            section(&mut document, program).remove("auto");
        }
        Change::Auto(mode) => set(section(&mut document, program), "auto", word(*mode).into()),
        Change::Launch(command) if now.launch == *command => return Ok(text.to_owned()),
        Change::Launch(command) => {
            let command = Array::from_iter(command);
            set(section(&mut document, program), "launch", command.into());
        }
        Change::Mark { module, mark } => {
            let lists = [("mark", Mark::Reload, &now.mark), ("skip", Mark::Skip, &now.skip)];
            if lists.iter().all(|(_, of, names)| names.contains(module) == (mark == of)) {
                return Ok(text.to_owned());
            }
            for (key, of, _) in lists {
                // A decision for all programs would speak against this one.
                remove(document.get_mut(key), module);
                if document.get("program").is_some_and(|programs| programs.get(program).is_some()) {
                    remove(section(&mut document, program).get_mut(key), module);
                }
                if *mark == of {
                    let list = section(&mut document, program).entry(key).or_insert(value(Array::new()));
                    if let Some(list) = list.as_array_mut() {
                        list.push(module.as_str());
                    }
                }
            }
        }
    }
    Ok(document.to_string())
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Marked => "marked",
        Mode::All => "all",
    }
}

/// `[program.NAME]`, made where it is missing.
fn section<'a>(document: &'a mut DocumentMut, program: &str) -> &'a mut dyn TableLike {
    let mut implicit = Table::new();
    // `[program]` alone is not worth a line.
    implicit.set_implicit(true);
    let programs = document.entry("program").or_insert(Item::Table(implicit));
    let programs = programs.as_table_like_mut().expect("`parse` has found a table of programs");
    let own = programs.entry(program).or_insert(Item::Table(Table::new()));
    own.as_table_like_mut().expect("`parse` has found a table")
}

/// Sets a value in the place of the one before, with the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, mut new: Value) {
    if let Some(old) = table.get_mut(key).and_then(Item::as_value_mut) {
        *new.decor_mut() = old.decor().clone();
        *old = new;
    } else {
        table.insert(key, Item::Value(new));
    }
}

fn remove(list: Option<&mut Item>, module: &str) {
    if let Some(list) = list.and_then(Item::as_array_mut) {
        list.retain(|name: &Value| name.as_str() != Some(module));
    }
}

#[cfg(test)]
mod tests {
    use reload_engine::model::{Mark, Mode};

    use super::{Change, edited};

    fn check(text: &str, change: Change, expected: &str) {
        assert_eq!(edited(text, "aurora", &change).unwrap(), expected);
    }

    fn mark(module: &str, mark: Mark) -> Change {
        Change::Mark { module: module.to_owned(), mark }
    }

    #[test]
    fn a_new_file_begins_with_the_program() {
        check("", Change::Auto(Mode::All), "[program.aurora]\nauto = \"all\"\n");
        check("", mark("a.so", Mark::Skip), "[program.aurora]\nskip = [\"a.so\"]\n");
        check("", mark("a.so", Mark::None), "");
        let launch = Change::Launch(vec!["./aurora".to_owned(), "--level".to_owned(), "3".to_owned()]);
        check("", launch, "[program.aurora]\nlaunch = [\"./aurora\", \"--level\", \"3\"]\n");
    }

    #[test]
    fn comments_and_what_else_was_written_by_hand_stay() {
        let text = "# mine\neditor = 'vim'   # of course\n\n[program.aurora]  # the game\nauto = \"off\"  # for now\nmark = [\n    \"a.so\",  # often\n]\n";
        let all = text.replace("auto = \"off\"", "auto = \"all\"");
        check(text, Change::Auto(Mode::All), &all);
        let two = text.replace("    \"a.so\",  # often\n", "    \"a.so\",  # often\n \"b.so\",]");
        let marked = edited(text, "aurora", &mark("b.so", Mark::Reload)).unwrap();
        assert!(
            marked.contains("# often") && marked.contains("\"b.so\"") && marked.contains("# the game"),
            "{two}{marked}"
        );
        check(text, mark("a.so", Mark::Reload), text);
    }

    #[test]
    fn what_holds_for_all_is_not_said_twice() {
        check("auto = \"all\"\n", Change::Auto(Mode::All), "auto = \"all\"\n");
        let own = "auto = \"all\"\n\n[program.aurora]\nauto = \"off\"\nskip = [\"a.so\"]\n";
        check(own, Change::Auto(Mode::All), "auto = \"all\"\n\n[program.aurora]\nskip = [\"a.so\"]\n");
    }

    #[test]
    fn a_module_is_in_one_list_at_most() {
        let text = "[program.aurora]\nmark = [\"a.so\", \"b.so\"]\n";
        check(text, mark("a.so", Mark::None), "[program.aurora]\nmark = [ \"b.so\"]\n");
        let moved = edited(text, "aurora", &mark("b.so", Mark::Skip)).unwrap();
        assert_eq!(moved, "[program.aurora]\nmark = [\"a.so\"]\nskip = [\"b.so\"]\n");
        check("skip = [\"a.so\"]\n", mark("a.so", Mark::None), "skip = []\n");
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        assert_eq!(edited("auto = 1\n", "aurora", &Change::Auto(Mode::Off)).unwrap_err().line, 1);
    }
}
