//! Names of generic types as their programmers wrote them: without what the standard libraries fill in by themselves.

/// What the standard libraries take for these arguments where nothing is said; `0` and `1` stand for the first two.
const DEFAULTS: [&str; 10] = [
    "std::allocator<0>",
    "std::allocator<std::pair<0 const, 1>>",
    "std::allocator<std::pair<const 0, 1>>",
    "std::char_traits<0>",
    "std::default_delete<0>",
    "std::equal_to<0>",
    "std::hash<0>",
    "std::less<0>",
    "alloc::alloc::Global",
    "std::hash::random::RandomState",
];
/// Generic types of C++ that have such defaults, and may have others for a user's type of that name.
const OF_CPP: [&str; 20] = [
    "basic_string",
    "basic_string_view",
    "deque",
    "forward_list",
    "list",
    "map",
    "multimap",
    "multiset",
    "set",
    "unique_ptr",
    "unordered_map",
    "unordered_multimap",
    "unordered_multiset",
    "unordered_set",
    "vector",
    "basic_ostream",
    "basic_istream",
    "basic_stringbuf",
    "basic_ostringstream",
    "basic_stringstream",
];
/// Parts of names that the libraries' headers do not show.
const VERSIONS: [&str; 3] = ["__cxx11::", "__1::", "_V2::"];
/// What has a shorter name, which ends the same way.
const STRINGS: [(&str, &str); 2] = [("basic_string<char>", "string"), ("basic_string_view<char>", "string_view")];

/// `map<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >, Item, std::less<...>, ...>` is
/// `map<std::string, Item>`. A name whose brackets do not match stays as it is.
pub fn as_written(name: &str) -> String {
    let mut rest = name;
    match until_closed(&mut rest, 0) {
        Some(short) if rest.is_empty() => short,
        _ => name.to_owned(),
    }
}

/// Brackets within brackets that are followed.
const DEPTH: usize = 64;

/// Up to the comma or bracket that ends an argument, which is left in `text`, or to the end; `None`: a bracket is missing.
fn until_closed(text: &mut &str, depth: usize) -> Option<String> {
    let mut short = String::new();
    let mut round = 0_usize;
    while let Some(next) = text.chars().next() {
        match next {
            '<' if !is_operator(&short) => {
                *text = &text[1..];
                let mut arguments = (depth < DEPTH).then(|| arguments(text, depth + 1))??;
                leave_out_defaults(last_word(&short), &mut arguments);
                short.push_str(&format!("<{}>", arguments.join(", ")));
                for (long, as_called) in STRINGS {
                    if let Some(before) = short.strip_suffix(long).filter(|before| last_word(before).is_empty()) {
                        short = before.to_owned() + as_called;
                    }
                }
                continue;
            }
            '>' if !is_operator(&short) && !short.ends_with('-') => return (round == 0).then_some(short),
            ',' if round == 0 => return Some(short),
            '(' | '[' | '{' => round += 1,
            ')' | ']' | '}' => round = round.checked_sub(1)?,
            _ => {}
        }
        short.push(next);
        *text = &text[next.len_utf8()..];
        for version in VERSIONS {
            if let Some(before) = short.strip_suffix(version).filter(|before| last_word(before).is_empty()) {
                short.truncate(before.len());
            }
        }
    }
    (round == 0).then_some(short)
}

/// Those up to the closing bracket, which is taken off as well.
fn arguments(text: &mut &str, depth: usize) -> Option<Vec<String>> {
    let mut arguments: Vec<String> = Vec::new();
    loop {
        let argument = until_closed(text, depth)?;
        arguments.push(argument.trim().to_owned());
        let is_last = text.starts_with('>');
        *text = text.get(1..)?;
        if is_last {
            break;
        }
    }
    Some(arguments)
}

fn leave_out_defaults(of: &str, arguments: &mut Vec<String>) {
    let is_default = |arguments: &[String], last: &str| {
        DEFAULTS.iter().any(|default| {
            if default.ends_with('>') {
                let second = arguments.get(1).map_or("", String::as_str);
                let parts: Vec<String> = default.split('0').map(|part| part.replace('1', second)).collect();
                OF_CPP.contains(&of) && parts.join(&arguments[0]) == last
            } else {
                *default == last
            }
        })
    };
    while arguments.len() > 1 && arguments.last().is_some_and(|last| is_default(arguments, last)) {
        arguments.pop();
    }
}

/// The identifier that a name ends with.
fn last_word(name: &str) -> &str {
    let start = name.trim_end_matches(|part: char| part.is_alphanumeric() || part == '_').len();
    &name[start..]
}

/// `operator<`, `operator->` and their kin.
fn is_operator(before: &str) -> bool {
    last_word(before.trim_end_matches(['<', '>', '-', '='])) == "operator"
}

#[cfg(test)]
mod tests {
    use super::as_written;

    #[test]
    fn what_nobody_wrote_is_left_out() {
        let check = |name: &str, expected: &str| assert_eq!(as_written(name), expected);
        check(
            "map<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >, Item, std::less<std::__cxx11::\
             basic_string<char, std::char_traits<char>, std::allocator<char> > >, std::allocator<std::pair<std::__cxx11::\
             basic_string<char, std::char_traits<char>, std::allocator<char> > const, Item> > >",
            "map<std::string, Item>",
        );
        check(
            "std::vector<int, std::allocator<int> >::push_back(int const&)",
            "std::vector<int>::push_back(int const&)",
        );
        check("std::function<void (int, long)>", "std::function<void (int, long)>");
        check("std::vector<int, pool::allocator<int> >", "std::vector<int, pool::allocator<int>>");
        check("HashMap<u32, Vec<u8, alloc::alloc::Global>, std::hash::random::RandomState>", "HashMap<u32, Vec<u8>>");
        check("std::pair<int, std::hash<int> >", "std::pair<int, std::hash<int>>");
        check("std::set<int, std::less<void> >", "std::set<int, std::less<void>>");
        check("my_basic_string<char>", "my_basic_string<char>");
        check("std::__cxx11::list<Item, std::allocator<Item> >", "std::list<Item>");
        check(
            "std::unique_ptr<Base, std::default_delete<Derived> >",
            "std::unique_ptr<Base, std::default_delete<Derived>>",
        );
        check("basic_string_view<wchar_t, std::char_traits<wchar_t> >", "basic_string_view<wchar_t>");
        let deep = "a<".repeat(100_000);
        check(&deep, &deep);
        check("std::less<std::less<int> >", "std::less<std::less<int>>");
    }

    #[test]
    fn other_brackets_are_no_arguments() {
        for name in [
            "operator<(Item const&, Item const&)",
            "Item::operator->() const",
            "operator<< <char>(Stream&)",
            "dyn core::ops::function::Fn(u8) -> bool",
            "Option<fn(u8) -> bool>",
            "<Item as core::fmt::Debug>::fmt",
            "Array<(1 << 3)>",
            "a > b",
            "half<open",
            "f(a, b)",
            "{lambda(int, long)#1}",
        ] {
            assert_eq!(as_written(name), name);
        }
    }
}
