//! Names of generic types as their programmers wrote them: without what the standard libraries fill in by themselves.

/// What the standard libraries take where nothing is said, as it begins.
const DEFAULTS: [&str; 8] = [
    "std::allocator<",
    "std::char_traits<",
    "std::default_delete<",
    "std::equal_to<",
    "std::hash<",
    "std::less<",
    "alloc::alloc::Global",
    "std::hash::random::RandomState",
];
/// A part of the name that the library's header does not show.
const VERSION: &str = "__cxx11::";
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
                let arguments = (depth < DEPTH).then(|| arguments(text, depth + 1))??;
                short.push_str(&format!("<{}>", arguments.join(", ")));
                for (long, as_called) in STRINGS {
                    if let Some(before) = short.strip_suffix(long) {
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
        if let Some(before) = short.strip_suffix(VERSION) {
            short.truncate(before.len());
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
    let is_default = |argument: &String| DEFAULTS.iter().any(|start| argument.starts_with(start));
    while arguments.len() > 1 && arguments.last().is_some_and(is_default) {
        arguments.pop();
    }
    Some(arguments)
}

/// `operator<`, `operator->` and their kin.
fn is_operator(before: &str) -> bool {
    before.trim_end_matches(['<', '>', '-', '=']).ends_with("operator")
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
