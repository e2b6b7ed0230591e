//! Values as people read them: ages, sizes, times, shortened paths. Pure functions.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, tz::TimeZone};

/// How long ago, in one unit: `just now`, `20 s ago`, `4 min ago`, `2 h ago`, `3 d ago`.
///
/// Seconds go in steps of ten, so that the window needs to be drawn again only that often.
pub fn age(time: SystemTime, now: SystemTime) -> String {
    let Ok(age) = now.duration_since(time) else {
        return "in the future".to_owned();
    };
    let seconds = age.as_secs();
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{} s ago", seconds / 10 * 10),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// How soon the window is to be drawn again for [`age`] of this time to read rightly: not to the second, as many of them are
/// shown at once.
pub fn age_lasts(time: SystemTime, now: SystemTime) -> Duration {
    let seconds = now.duration_since(time).unwrap_or_default().as_secs();
    let (unit, soonest) = match seconds {
        0..60 => (10, 10),
        60..3600 => (60, 60),
        3600..86_400 => (3600, 60),
        _ => (86_400, 60),
    };
    Duration::from_secs((unit - seconds % unit).max(soonest))
}

/// The exact time as the clock on the wall tells it, to the second; as [`utc`] where the year cannot be told.
pub fn exact(time: SystemTime, zone: &TimeZone) -> String {
    match Timestamp::try_from(time) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => utc(time),
    }
}

/// The exact time for readers elsewhere.
pub fn utc(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string().replace('T', " ").replace('Z', " UTC")
}

/// Bytes in binary units with one decimal where it matters.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1023.95 || unit == "GiB" {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    unreachable!("the last unit takes everything")
}

/// Milliseconds: one decimal below ten.
pub fn milliseconds(ms: f64) -> String {
    if ms < 9.95 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// A short span of time: `0.4 s`, `12 s`.
pub fn seconds(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 9.95 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

/// With a capital letter, unless it begins with a name: of a file, a module, a setting.
pub fn capital(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default().trim_end_matches([',', ';']);
    let is_word = word.chars().all(|letter| letter.is_ascii_lowercase() || matches!(letter, '-' | '\''));
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if is_word => format!("{}{}", first.to_ascii_uppercase(), letters.as_str()),
        _ => text.to_owned(),
    }
}

/// With a capital letter, unless it begins with a name, and a full stop.
pub fn sentence(text: &str) -> String {
    let stop = if text.ends_with(['.', '!', '?', '`']) { "" } else { "." };
    format!("{}{stop}", capital(text))
}

/// `1 module`, `2 modules`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// At most `limit` characters, the middle left out: the end of a path tells modules apart, its start says whose it is.
pub fn elide_middle(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let kept = limit.saturating_sub(1);
    let head = kept * 2 / 5;
    let tail = kept - head;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// As [`elide_middle`] a path, whose file name stays whole as long as that can be.
pub fn elide_path(path: &str, limit: usize) -> String {
    let Some((folder, file)) = path.rsplit_once('/').filter(|_| path.chars().count() > limit) else {
        return elide_middle(path, limit);
    };
    // The ellipsis and the slash.
    let needed = file.chars().count() + 2;
    match limit.checked_sub(needed) {
        Some(room) => format!("{}/{file}", elide_middle(folder, room + 1)),
        None => elide_middle(file, limit),
    }
}

/// The value below which `share` of the values lie, by the nearest-rank method.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use jiff::tz::{TimeZone, offset};

    use super::{age, age_lasts, elide_middle, elide_path, exact, percentile, sentence, size};

    #[test]
    fn ages_have_one_unit() {
        let now = SystemTime::now();
        let check = |seconds: u64, expected: &str| assert_eq!(age(now - Duration::from_secs(seconds), now), expected);
        check(3, "just now");
        check(29, "20 s ago");
        check(61, "1 min ago");
        check(7300, "2 h ago");
        check(90_000, "1 d ago");
        assert_eq!(age(now + Duration::from_secs(5), now), "in the future");
    }

    #[test]
    fn exact_times_are_those_of_the_zone() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1795903200976);
        let check = |zone, expected: &str| assert_eq!(exact(time, &zone), expected);
        check(TimeZone::UTC, "2026-11-28 22:00:00");
        check(TimeZone::fixed(offset(2)), "2026-11-29 00:00:00");
    }

    #[test]
    fn only_fresh_ages_need_frequent_drawing() {
        let now = SystemTime::now();
        let wait = |seconds| age_lasts(now - Duration::from_secs(seconds), now).as_secs();
        assert_eq!((wait(5), wait(59), wait(61), wait(3599)), (10, 10, 60, 60));
        assert_eq!((wait(3600), wait(7000), wait(90_000)), (3600, 200, 82_800));
    }

    #[test]
    fn sizes_are_rounded_for_reading() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(933_888, "912 KiB");
        check(1024 * 1024, "1.0 MiB");
        check(5 * 1024 * 1024 * 1024, "5.0 GiB");
    }

    #[test]
    fn sentences_leave_names_as_they_are() {
        assert_eq!(sentence("process 7 is reloading this target"), "Process 7 is reloading this target.");
        assert_eq!(sentence("no, it is not!"), "No, it is not!");
        assert_eq!(sentence("libfoo.so: no such file"), "libfoo.so: no such file.");
        assert_eq!(sentence("fs.inotify.max_user_watches is used up"), "fs.inotify.max_user_watches is used up.");
        assert_eq!(sentence("e_machine is 183"), "e_machine is 183.");
    }

    #[test]
    fn the_end_of_a_path_survives() {
        assert_eq!(elide_middle("/a/b", 10), "/a/b");
        assert_eq!(elide_middle("/home/ada/build/libphysics.so", 16), "/home/…hysics.so");
    }

    #[test]
    fn the_file_name_of_a_path_survives() {
        let path = "/home/ada/build/libphysics.so";
        assert_eq!(elide_path(path, 29), path);
        assert_eq!(elide_path(path, 24), "/ho…/build/libphysics.so");
        assert_eq!(elide_path(path, 15), "…/libphysics.so");
        assert_eq!(elide_path(path, 10), "lib…ics.so");
        assert_eq!(elide_path("libphysics.so", 10), "lib…ics.so");
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(10.0));
        assert_eq!(percentile(&values, 0.95), Some(19.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
