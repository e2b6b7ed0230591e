//! Which modules the table shows, and in which order: from a snapshot and a query to an index. Pure, cached by the caller.

use std::{
    cmp::{Ordering, Reverse},
    ops::Range,
};

use memchr::memmem::Finder;
use reload_engine::model::{Change, Class, Mark, Module, Snapshot, Status};
use serde::{Deserialize, Serialize};

/// All statuses in the order of their urgency.
pub const STATUSES: [Status; 7] = [
    Status::Failed,
    Status::Refused,
    Status::Missing,
    Status::Reloading,
    Status::Changed,
    Status::Current,
    Status::Skipped,
];

/// What the table is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Column {
    #[default]
    Status,
    Name,
    Modified,
    Size,
    Generation,
    Last,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sort {
    pub column: Column,
    pub reversed: bool,
}

impl Sort {
    /// What a click on the header of `column` leads to.
    pub fn clicked(self, column: Column) -> Sort {
        if self.column == column {
            Sort { column, reversed: !self.reversed }
        } else {
            // Of times and amounts people look for the greatest first.
            let reversed = matches!(column, Column::Modified | Column::Size | Column::Generation | Column::Last);
            Sort { column, reversed }
        }
    }
}

/// What the user asked to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// Words that must all occur in the path, letter case aside.
    pub text: String,
    pub status: Option<Status>,
    pub sort: Sort,
    /// System modules are listed instead of folded into one line.
    pub system_open: bool,
}

impl Query {
    pub fn is_filtered(&self) -> bool {
        !self.text.trim().is_empty() || self.status.is_some()
    }
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// Position in the snapshot's modules.
    Module(usize),
    /// The line that stands for the system modules.
    System { count: usize, open: bool },
}

/// The lines of the table and the numbers of the tool bar.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Index {
    pub rows: Vec<Row>,
    /// Modules that match the query, folded ones included.
    pub matching: usize,
    /// Modules that are the user's own business: everything that is never folded.
    pub total: usize,
    /// Of these, per entry of [`STATUSES`].
    pub counts: [usize; 7],
    /// Modules that Reload now would take up.
    pub pending: usize,
}

/// What is read out of a snapshot once, so that a letter typed into the filter costs no more than a search.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Prepared {
    sort: Sort,
    /// All modules in the order of the table, and whether they are folded.
    order: Vec<(usize, bool)>,
    /// Where each of these has its text: names and paths in lower case, each with an end of line, one after the other.
    texts: Vec<Range<usize>>,
    text: String,
    total: usize,
    counts: [usize; 7],
    pending: usize,
}

impl Prepared {
    pub fn new(snapshot: &Snapshot, sort: Sort) -> Prepared {
        let modules = &snapshot.modules;
        let mut order: Vec<(usize, bool)> =
            modules.iter().enumerate().map(|(position, module)| (position, is_folded(module))).collect();
        order.sort_by(|(a, _), (b, _)| compare(&modules[*a], &modules[*b], sort));
        let pending = modules.iter().filter(|module| is_pending(module)).count();
        let mut prepared = Prepared { sort, order, pending, ..Prepared::default() };
        for (position, folded) in &prepared.order {
            let module = &modules[*position];
            let start = prepared.text.len();
            for part in [&module.name, "\n", &module.path.to_string_lossy(), "\n"] {
                if part.is_ascii() {
                    prepared.text.push_str(part);
                    let from = prepared.text.len() - part.len();
                    prepared.text[from..].make_ascii_lowercase();
                } else {
                    prepared.text.push_str(&part.to_lowercase());
                }
            }
            prepared.texts.push(start..prepared.text.len());
            if !folded {
                prepared.total += 1;
                if let Some(slot) = STATUSES.iter().position(|status| *status == module.status) {
                    prepared.counts[slot] += 1;
                }
            }
        }
        prepared
    }

    /// Whether it serves a query, of the same snapshot.
    pub fn serves(&self, query: &Query) -> bool {
        self.sort == query.sort
    }

    /// Tells which of the order have all of these words, each without white space, in their texts.
    fn each_having(&self, words: &[String], mut tell: impl FnMut(usize)) {
        let mut finders: Vec<Finder<'_>> = words.iter().map(|word| Finder::new(word.as_bytes())).collect();
        // One search goes through all texts at once: a longer word stops it less often.
        finders.sort_by_key(|finder| Reverse(finder.needle().len()));
        let Some((rarest, others)) = finders.split_first() else {
            return (0..self.order.len()).for_each(tell);
        };
        let text = self.text.as_bytes();
        let (mut row, mut from) = (0, 0);
        while let Some(found) = rarest.find(&text[from..]) {
            while self.texts[row].end <= from + found {
                row += 1;
            }
            let own = self.texts[row].clone();
            from = own.end;
            if others.iter().all(|finder| finder.find(&text[own.clone()]).is_some()) {
                tell(row);
            }
        }
    }
}

impl Index {
    /// `prepared` is of this snapshot and serves this query.
    pub fn new(snapshot: &Snapshot, prepared: &Prepared, query: &Query) -> Index {
        let words: Vec<String> = query.text.split_whitespace().map(str::to_lowercase).collect();
        let Prepared { total, counts, pending, .. } = *prepared;
        let mut index = Index { total, counts, pending, ..Index::default() };
        let mut system = Vec::new();
        prepared.each_having(&words, |at| {
            let (position, folded) = prepared.order[at];
            if query.status.is_none_or(|status| !folded && snapshot.modules[position].status == status) {
                if folded { &mut system } else { &mut index.rows }.push(Row::Module(position));
            }
        });
        index.matching = index.rows.len() + system.len();
        // Whoever searches wants to see what was found.
        let open = query.system_open || !words.is_empty();
        if !system.is_empty() {
            index.rows.push(Row::System { count: system.len(), open });
            if open {
                index.rows.append(&mut system);
            }
        }
        index
    }

    pub fn count(&self, status: Status) -> usize {
        STATUSES.iter().position(|other| *other == status).map_or(0, |slot| self.counts[slot])
    }

    /// The line of the module at `position` in the snapshot.
    pub fn row_of(&self, position: usize) -> Option<usize> {
        self.rows.iter().position(|row| *row == Row::Module(position))
    }
}

/// System modules nobody has marked and nothing has happened to.
pub fn is_folded(module: &Module) -> bool {
    matches!(module.class, Class::System | Class::Protected)
        && module.mark != Mark::Reload
        && matches!(module.status, Status::Current | Status::Skipped)
}

/// Whether Reload now would take this module up.
fn is_pending(module: &Module) -> bool {
    module.status == Status::Changed && module.mark != Mark::Skip && !is_rolled_back(module)
}

/// Whether the file on disk is the one the user went back from: it is left alone until it changes.
pub fn is_rolled_back(module: &Module) -> bool {
    let last = module.history.last();
    last.is_some_and(|entry| entry.what == Change::Rollback && module.mtime.is_none_or(|mtime| mtime <= entry.time))
}

/// Changed and reloading share a rank, so that a row does not jump away under the pointer when its reload begins.
fn urgency(status: Status) -> u8 {
    match status {
        Status::Failed => 0,
        Status::Refused => 1,
        Status::Missing => 2,
        Status::Changed | Status::Reloading => 3,
        Status::Current => 4,
        Status::Skipped => 5,
    }
}

fn compare(a: &Module, b: &Module, sort: Sort) -> Ordering {
    let order = match sort.column {
        Column::Status => urgency(a.status).cmp(&urgency(b.status)).then_with(|| marked_last(a).cmp(&marked_last(b))),
        Column::Name => natural(&a.name, &b.name),
        Column::Modified => a.mtime.cmp(&b.mtime),
        Column::Size => a.size.cmp(&b.size),
        Column::Generation => a.generation.cmp(&b.generation),
        Column::Last => a.last_ms.unwrap_or(-1.0).total_cmp(&b.last_ms.unwrap_or(-1.0)),
    };
    let order = if sort.reversed { order.reverse() } else { order };
    order
        .then_with(|| natural(&a.name, &b.name))
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.path.as_os_str().cmp(b.path.as_os_str()))
}

/// As people count: `lib2.so` before `lib10.so`, letter case aside.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (number_a, number_b) = (digits(left), digits(right));
        if !number_a.is_empty() && !number_b.is_empty() {
            let (x, y) = (without_zeroes(number_a), without_zeroes(number_b));
            // Of as many digits the first that differs decides.
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
            if order.is_ne() {
                return order;
            }
            (left, right) = (&left[number_a.len()..], &right[number_b.len()..]);
            continue;
        }
        match (left.split_first(), right.split_first()) {
            (Some((x, rest_a)), Some((y, rest_b))) => {
                let order = x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase());
                if order.is_ne() {
                    return order;
                }
                (left, right) = (rest_a, rest_b);
            }
            (x, y) => return x.is_some().cmp(&y.is_some()),
        }
    }
}

fn digits(text: &[u8]) -> &[u8] {
    &text[..text.iter().take_while(|byte| byte.is_ascii_digit()).count()]
}

fn without_zeroes(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().take_while(|digit| **digit == b'0').count()..]
}

fn marked_last(module: &Module) -> bool {
    module.mark != Mark::Reload
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use reload_engine::model::{Class, Connection, Generation, LoadBias, Mark, Mode, Module, Snapshot, Status, Target};

    use super::{Column, Index, Prepared, Query, Row, Sort};

    fn module(name: &str, class: Class, status: Status, generation: u32) -> Module {
        Module {
            name: name.to_owned(),
            path: format!("/build/{name}").into(),
            mtime: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(generation))),
            size: Some(u64::from(generation) * 100),
            class,
            mark: Mark::None,
            status,
            differs: false,
            generation: Generation(generation),
            last_ms: None,
            failure: None,
            shield: None,
            history: Vec::new(),
            generations: Vec::new(),
            soname: None,
            bias: LoadBias(0),
        }
    }

    fn snapshot() -> Snapshot {
        let mut marked = module("libz.so", Class::System, Status::Current, 3);
        marked.mark = Mark::Reload;
        Snapshot {
            target: Target { pid: 7, name: "aurora".to_owned(), exe: "/bin/aurora".into() },
            mode: Mode::Off,
            modules: vec![
                module("libgood.so", Class::Project, Status::Current, 9),
                module("libc.so.6", Class::Protected, Status::Skipped, 0),
                module("libbad.so", Class::Project, Status::Failed, 1),
                module("libm.so.6", Class::System, Status::Skipped, 0),
                module("libnew.so", Class::Project, Status::Changed, 2),
                marked,
            ],
            revision: 1,
            connection: Connection::Attached,
            watched_directories: 1,
        }
    }

    fn index(snapshot: &Snapshot, query: &Query) -> Index {
        Index::new(snapshot, &Prepared::new(snapshot, query.sort), query)
    }

    /// The index as text: names in order, the system line as `[n]`.
    fn check(query: Query, expected: &str) {
        let snapshot = snapshot();
        let index = self::index(&snapshot, &query);
        let rows: Vec<String> = index
            .rows
            .iter()
            .map(|row| match row {
                Row::Module(position) => snapshot.modules[*position].name.clone(),
                Row::System { count, .. } => format!("[{count}]"),
            })
            .collect();
        assert_eq!(rows.join(" "), expected);
    }

    #[test]
    fn worst_first_and_system_modules_in_one_line() {
        check(Query::default(), "libbad.so libnew.so libz.so libgood.so [2]");
    }

    #[test]
    fn the_system_line_opens() {
        let query = Query { system_open: true, ..Query::default() };
        check(query, "libbad.so libnew.so libz.so libgood.so [2] libc.so.6 libm.so.6");
    }

    #[test]
    fn a_search_looks_into_the_system_line() {
        check(Query { text: "LIBM".to_owned(), ..Query::default() }, "[1] libm.so.6");
        check(Query { text: "build good".to_owned(), ..Query::default() }, "libgood.so");
        check(Query { text: "so/build".to_owned(), ..Query::default() }, "");
        check(Query { text: "nothing".to_owned(), ..Query::default() }, "");
    }

    #[test]
    fn a_status_filters_the_users_own_modules() {
        check(Query { status: Some(Status::Current), ..Query::default() }, "libz.so libgood.so");
        check(Query { status: Some(Status::Skipped), ..Query::default() }, "");
    }

    #[test]
    fn every_column_sorts_both_ways() {
        let sorted = |column, reversed| Query { sort: Sort { column, reversed }, ..Query::default() };
        check(sorted(Column::Status, true), "libgood.so libz.so libnew.so libbad.so [2]");
        check(sorted(Column::Name, false), "libbad.so libgood.so libnew.so libz.so [2]");
        check(sorted(Column::Modified, true), "libgood.so libz.so libnew.so libbad.so [2]");
        check(sorted(Column::Size, false), "libbad.so libnew.so libz.so libgood.so [2]");
        check(sorted(Column::Generation, true), "libgood.so libz.so libnew.so libbad.so [2]");
    }

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["lib10.so", "LIB2.so", "lib1.so", "lib.so", "lib02b.so", "libz.so", "liba.so", "lib2.so.6"];
        names.sort_by(|a, b| super::natural(a, b));
        assert_eq!(names, ["lib.so", "lib1.so", "LIB2.so", "lib2.so.6", "lib02b.so", "lib10.so", "liba.so", "libz.so"]);
    }

    #[test]
    fn a_second_click_turns_the_order() {
        let once = Sort::default().clicked(Column::Size);
        assert_eq!(once, Sort { column: Column::Size, reversed: true });
        assert_eq!(once.clicked(Column::Size), Sort { column: Column::Size, reversed: false });
        assert_eq!(once.clicked(Column::Name), Sort { column: Column::Name, reversed: false });
    }

    #[test]
    fn counts_leave_folded_modules_out() {
        let index = self::index(&snapshot(), &Query::default());
        assert_eq!((index.total, index.matching), (4, 6));
        assert_eq!(index.count(Status::Current), 2);
        assert_eq!(index.count(Status::Skipped), 0);
    }

    #[test]
    fn rows_of_ten_thousand_modules_take_milliseconds() {
        let mut snapshot = snapshot();
        snapshot.modules =
            (0..10_000).map(|n| module(&format!("lib{n}.so"), Class::Project, Status::Current, n)).collect();
        let start = std::time::Instant::now();
        let index = self::index(&snapshot, &Query { text: "lib9".to_owned(), ..Query::default() });
        assert_eq!(index.matching, 1111);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
