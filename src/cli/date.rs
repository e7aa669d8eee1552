//! Moments as the tools of a Java server print them, in UTC.

const DAY_MS: i64 = 86_400_000;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

struct Moment {
    year: i64,
    /// From 0 on.
    month: usize,
    day: i64,
    /// From Thursday on, the day of the week of 1970-01-01.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

/// The date of the Gregorian calendar, counted in eras of 400 years that begin in March.
fn moment(ms: i64) -> Moment {
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS) / 1000);
    let since_march = days + 719_468;
    let (era, day_of_era) = (since_march.div_euclid(146_097), since_march.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = (from_march + 2) % 12;
    Moment {
        year: era * 400 + year_of_era + i64::from(month < 2),
        month: month as usize,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
        weekday: days.rem_euclid(7) as usize,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
    }
}

/// `11/22/26, 1:04:24 AM UTC`.
pub(super) fn short(ms: i64) -> String {
    let Moment { year, month, day, hour, minute, second, .. } = moment(ms);
    let half = if hour < 12 { "AM" } else { "PM" };
    let (month, year, hour) = (month + 1, year.rem_euclid(100), (hour + 11) % 12 + 1);
    format!("{month}/{day}/{year:02}, {hour}:{minute:02}:{second:02} {half} UTC")
}

/// `Sun Nov 22 01:02:17 UTC 2026`.
pub(super) fn long(ms: i64) -> String {
    let Moment { year, month, day, weekday, hour, minute, second } = moment(ms);
    let (weekday, month) = (WEEKDAYS[weekday], MONTHS[month]);
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, expected) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (4_107_542_399_999, "Sun Feb 28 23:59:59 UTC 2100"),
            (4_107_542_400_000, "Mon Mar 01 00:00:00 UTC 2100"),
        ] {
            assert_eq!(long(ms), expected);
        }
        assert_eq!(short(0), "1/1/70, 12:00:00 AM UTC");
        assert_eq!(short(43_200_000), "1/1/70, 12:00:00 PM UTC");
        for ms in [i64::MIN, i64::MAX] {
            assert!(long(ms).contains("UTC"));
        }
    }
}
