// SRC: src/rate_window.c src/rate_spec.c  LIBS:
/*
 * test_rate_window.c - sliding windows against a brute-force oracle that keeps every send, and
 * the text of rate limits.
 */
#include "../../src/rate_window.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S INT64_C(1000000)

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static uint64_t seed = 88172645463325252u;

static uint64_t
roll(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/* ---- the oracle: all stamps ever, in order ---- */

#define MAX_STAMPS 200000

typedef struct Oracle
{
	int64_t		stamps[MAX_STAMPS];
	int			n;
	int			reserved;
} Oracle;

static Oracle oracle;

static int
oracle_count(int64_t now, int64_t length)
{
	int			n = 0;

	for (int i = oracle.n - 1; i >= 0 && now - oracle.stamps[i] < length; i--)
		n++;
	return n;
}

/* The most stamps in any closed interval of this length. */
static int
oracle_worst(int64_t length)
{
	int			worst = 0;

	for (int i = 0, j = 0; j < oracle.n; j++)
	{
		while (oracle.stamps[j] - oracle.stamps[i] > length)
			i++;
		if (j - i + 1 > worst)
			worst = j - i + 1;
	}
	return worst;
}

/* Those on log at that time, and all later ones. */
static int
oracle_since(int64_t then, int64_t length)
{
	int			n = 0;

	for (int i = 0; i < oracle.n; i++)
		n += then - oracle.stamps[i] < length;
	return n;
}

static RateWindow *
make(int64_t limit, int64_t period)
{
	RateWindow *w = malloc(rate_window_size(limit));

	rate_window_init(w, limit, period);
	return w;
}

static int64_t
random_step(int64_t period, int64_t limit)
{
	switch (roll(5))
	{
		case 0:
			return 0;
		case 1:
			return 1 + roll(3);
		case 2:
			return roll(2 * period / limit + 1);
		case 3:
			return roll(period / 3 + 1);
		default:
			return roll(100) == 0 ? period + roll(period) : roll(period / (4 * limit) + 1);
	}
}

typedef struct Faults
{
	bool		over;			/* granted where N were on log */
	bool		waste;			/* refused where fewer were */
	bool		next;			/* rate_window_next was not the moment at which it became free */
	bool		count;
} Faults;

/* One random history; exact: the window must agree with the oracle in both directions. */
static void
play(int64_t limit, int64_t period, int steps, bool exact, Faults *faults)
{
	RateWindow *w = make(limit, period);
	int64_t		length = period + w->margin_us;
	int64_t		now = roll(1000000);

	memset(&oracle, 0, sizeof(oracle));
	for (int i = 0; i < steps; i++)
	{
		bool		want;
		bool		got;

		now += random_step(period, limit);
		want = oracle_count(now, length) + oracle.reserved < limit;
		got = rate_window_free(w, now);
		faults->over |= got && !want;
		faults->waste |= exact && want && !got;
		faults->count |= exact && rate_window_count(w, now) != oracle_count(now, length) + oracle.reserved;
		if (!got)
		{
			int64_t		next = rate_window_next(w, now);

			if (next == INT64_MAX ? exact && oracle.reserved < limit
				: exact && (oracle_count(next, length) + oracle.reserved >= limit ||
							oracle_count(next - 1, length) + oracle.reserved < limit))
				faults->next = true;
			if (next != INT64_MAX && roll(3) > 0)
				now = next;
		}
		if (rate_window_free(w, now) && roll(10) > 0)
		{
			rate_window_reserve(w);
			oracle.reserved++;
		}
		while (oracle.reserved > 0 && roll(3) > 0)
		{
			oracle.reserved--;
			if (roll(8) == 0)
				rate_window_cancel(w);
			else
			{
				rate_window_stamp(w, now, 1, (int) roll(3) - 1);
				oracle.stamps[oracle.n++] = now;
			}
		}
	}
	faults->over |= oracle_worst(period) > limit;
	free(w);
}

static void
test_random_histories(void)
{
	Faults		exact = {0};
	Faults		coarse = {0};

	for (int round = 0; round < 200; round++)
		play(1 + roll(round % 4 == 0 ? RATE_EXACT_MAX : 12), S + roll(20 * S), 4000, true, &exact);
	check(!exact.over, "no random history has more than N sends in any interval of length T");
	check(!exact.waste, "up to RATE_EXACT_MAX a slot is free as soon as fewer than N sends lie in the period");
	check(!exact.next, "the next free moment is told to the microsecond");
	check(!exact.count, "the count equals the oracle's");
	for (int round = 0; round < 30; round++)
		play(RATE_EXACT_MAX + 1 + roll(4000), S + roll(100 * S), 40000, false, &coarse);
	check(!coarse.over, "a coarse window never grants too many either");
}

/* Takes whatever comes free at once; returns sends per limit, over many periods. */
static double
greedy_use(int64_t limit, int64_t period, int periods)
{
	RateWindow *w = make(limit, period);
	int64_t		now = 0;
	int64_t		sent = 0;

	while (now < period * periods)
	{
		if (rate_window_free(w, now))
		{
			rate_window_reserve(w);
			rate_window_stamp(w, now, 1, 0);
			sent++;
			now += roll(period / limit / 2 + 1);
		}
		else
			now = rate_window_next(w, now);
	}
	free(w);
	return (double) sent / ((double) limit * periods);
}

static void
test_full_use(void)
{
	double		worst = 1;

	for (int i = 0; i < 60; i++)
	{
		double		use = greedy_use(1 + roll(300), S * (1 + roll(10)), 60);

		worst = use < worst ? use : worst;
	}
	printf("# exact: least use %.4f\n", worst);
	check(worst >= 0.98, "a greedy sender uses at least 98 % of an exact limit");
	worst = 1;
	for (int i = 0; i < 10; i++)
	{
		double		use = greedy_use(2000 + roll(100000), S * (1 + roll(1000)), 60);

		worst = use < worst ? use : worst;
	}
	printf("# coarse: least use %.4f\n", worst);
	check(worst >= 0.98, "a greedy sender uses at least 98 % of a coarse limit");
}

static void
test_late_stamps(void)
{
	RateWindow *w = make(2, S);

	rate_window_reserve(w);
	rate_window_reserve(w);
	check(!rate_window_free(w, 100 * S) && rate_window_next(w, 100 * S) == INT64_MAX,
		  "reservations hold a slot for as long as they are not stamped");
	rate_window_stamp(w, 100 * S, 1, 0);
	rate_window_stamp(w, 100 * S - 500, 1, 1);
	check(!rate_window_free(w, 101 * S), "a stamp counts from when it was made, not from the grant");
	check(rate_window_next(w, 101 * S) == 101 * S + w->margin_us, "a clock reading that comes late cannot reorder the log");
	rate_window_stamp(w, 90 * S, 1, 0);
	check(w->logged <= w->limit, "the log never holds more than the limit");
	free(w);
}

static void
test_parties(void)
{
	RateWindow *w = make(10, 10 * S);

	for (int i = 0; i < 6; i++)
	{
		rate_window_reserve(w);
		rate_window_stamp(w, i * S, 1, i % 3 == 0 ? 1 : 0);
	}
	rate_window_charge(w, 6 * S, 2);
	check(w->logged_by[0] == 4 && w->logged_by[1] == 2 && w->logged == 8, "sends are told apart by party, charges are nobody's");
	(void) rate_window_count(w, 10 * S + w->margin_us);
	check(w->logged_by[0] == 4 && w->logged_by[1] == 1 && w->logged == 7, "a party's count falls as its sends expire");
	rate_window_charge(w, 10 * S + w->margin_us, 9);
	check(w->logged == 10 && w->logged_by[0] + w->logged_by[1] <= 1, "a charge beyond the limit pushes out the oldest");
	free(w);
}

static void
test_count_since(void)
{
	bool		good = true;
	bool		known = false;

	for (int round = 0; round < 200; round++)
	{
		int64_t		limit = 1 + roll(80);
		RateWindow *w = make(limit, S);
		int64_t		length = S + w->margin_us;
		int64_t		now = 0;

		memset(&oracle, 0, sizeof(oracle));
		for (int i = 0; i < 600; i++)
		{
			int64_t		then;
			int64_t		got;
			int			want;

			now += roll(S / limit + 1);
			if (rate_window_free(w, now))
			{
				rate_window_reserve(w);
				rate_window_stamp(w, now, 1, 0);
				oracle.stamps[oracle.n++] = now;
			}
			then = now - roll(6 * S);
			want = oracle_since(then, length);
			got = rate_window_count_since(w, then, now);
			good &= got == -1 || got == want;
			known |= got >= 0;
			good &= then < now - S / 2 || got >= 0;
		}
		free(w);
	}
	check(good && known, "what a remote counter can have seen is known for at least half a period back");
}

static void
test_carry(void)
{
	bool		good = true;

	for (int round = 0; round < 300; round++)
	{
		RateWindow *from = make(1 + roll(30), S * (1 + roll(5)));
		RateWindow *to = make(1 + roll(30), S * (1 + roll(5)));
		int64_t		length = to->period_us + to->margin_us;
		int64_t		now = 0;

		memset(&oracle, 0, sizeof(oracle));
		for (int i = 0; i < 200; i++)
		{
			now += roll(S / 3);
			if (!rate_window_free(from, now))
				continue;
			rate_window_reserve(from);
			rate_window_stamp(from, now, 1, 0);
			oracle.stamps[oracle.n++] = now;
		}
		rate_window_carry(to, from, now);
		for (int64_t then = now - 20 * S; then <= now; then += S / 3)
		{
			int64_t		got = rate_window_count_since(to, then, now);

			/* a lower limit has forgotten some on purpose: what it tells may be less, never more */
			good &= got == -1 || got <= oracle_since(then, length);
			good &= got == -1 || to->limit < from->limit || got == oracle_since(then, length);
		}
		for (int64_t t = now; t < now + 6 * S; t += S / 7)
		{
			bool		want = oracle_count(t, length) < to->limit;

			/* a longer period can know only what was still remembered */
			good &= from->period_us >= to->period_us ? rate_window_free(to, t) == want
				: want || oracle_count(now, from->period_us + from->margin_us) < to->limit || !rate_window_free(to, t);
		}
		free(from);
		free(to);
	}
	check(good, "a changed limit knows what was sent under the old one");
}

/* A changed coarse limit: whatever is granted after the change lies within both, and the new one is used. */
static void
test_carry_coarse(void)
{
	bool		held = true;
	bool		used = true;

	for (int round = 0; round < 40; round++)
	{
		int64_t		from_period = S * (100 + roll(1000));
		RateWindow *from = make(1500 + roll(3000), from_period);
		RateWindow *to = make(roll(2) ? 1500 + roll(3000) : 1 + roll(300), from_period - roll(from_period / 2));
		int64_t		now = roll(S);
		int64_t		end;
		int			before;

		memset(&oracle, 0, sizeof(oracle));
		while (now < 2 * from_period)
		{
			now += roll(from_period / from->limit);
			if (!rate_window_free(from, now))
				continue;
			rate_window_reserve(from);
			rate_window_stamp(from, now, 1, 0);
			oracle.stamps[oracle.n++] = now;
		}
		rate_window_carry(to, from, now);
		before = oracle.n;
		for (end = now + 2 * to->period_us; now < end; now += roll(to->period_us / to->limit))
		{
			if (!rate_window_free(to, now))
				continue;
			held &= oracle_count(now, to->period_us) < to->limit;
			rate_window_reserve(to);
			rate_window_stamp(to, now, 1, 0);
			oracle.stamps[oracle.n++] = now;
		}
		used &= oracle.n - before >= to->limit * 0.98;
		free(from);
		free(to);
	}
	check(held, "a changed coarse limit is never exceeded by what follows");
	check(used, "and it is used");
}

static void
test_memory(void)
{
	size_t		largest = 0;

	for (int64_t limit = RATE_EXACT_MAX + 1; limit <= 1000000000; limit *= 2)
		largest = rate_window_size(limit) > largest ? rate_window_size(limit) : largest;
	printf("# bytes: 1000/30d %zu, 250000/1d %zu, any coarse window %zu\n", rate_window_size(1000), rate_window_size(250000),
		   largest);
	check(largest < 12000 && rate_window_size(RATE_EXACT_MAX) < 80000, "a window's memory does not grow with its limit or its period");
}

/* Margins cover the jitter of the way to the API, which does not grow with the period, and the drift of clocks, which does. */
static void
test_margins(void)
{
	static const struct
	{
		int64_t		period_s;
		double		least_ms;
		double		most_share;
	}			cases[] = {{1, 11, 0.0113}, {2, 22, 0.0113}, {10, 25, 0.0027}, {60, 25, 0.0006}, {86400, 8000, 0.0002}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		RateWindow *w = make(10, cases[i].period_s * S);
		char		name[100];

		snprintf(name, sizeof(name), "a period of %d s: a margin of at least %g ms, of at most %g of it", (int) cases[i].period_s,
				 cases[i].least_ms, cases[i].most_share);
		check(w->margin_us >= cases[i].least_ms * 1000 && w->margin_us <= cases[i].most_share * w->period_us, name);
		free(w);
	}
}

/* ---- text ---- */

static bool
refused(const char *text)
{
	RateSpec	specs[16];
	char		error[200] = "";

	return rate_parse(text, specs, 16, error, sizeof(error)) == -1 && error[0] != '\0';
}

static void
test_parse(void)
{
	RateSpec	specs[16];
	char		error[200];

	check(rate_parse("100/10s, search:4/1s, 250000/1d", specs, 16, error, sizeof(error)) == 3 &&
		  strcmp(specs[0].bucket, "default") == 0 && specs[0].limit == 100 && specs[0].period_us == 10 * S &&
		  strcmp(specs[1].bucket, "search") == 0 && specs[1].limit == 4 && specs[1].period_us == S &&
		  strcmp(specs[2].bucket, "default") == 0 && specs[2].limit == 250000 && specs[2].period_us == 86400 * S,
		  "the example of the documentation is understood");
	check(rate_parse(" 5 / 1 min ,a_1 : 1/2h", specs, 16, error, sizeof(error)) == 2 && specs[0].period_us == 60 * S &&
		  specs[1].period_us == 7200 * S, "blanks are allowed anywhere between the pieces");
	check(rate_parse("3/s", specs, 16, error, sizeof(error)) == 1 && specs[0].period_us == S, "3/s is 3/1s");
	check(refused("") && refused("  ") && refused(",") && refused("1/1s,"), "nothing is not a limit");
	check(refused("0/1s") && refused("1/0s") && refused("-1/1s") && refused("1000000001/1s") && refused("1/367d") &&
		  refused("99999999999999999999999/1s") && refused("1/99999999999999999999d"), "zero and giants are refused");
	check(refused("1/1ms") && refused("1/1m") && refused("1/1") && refused("1/1S") && refused("1") && refused("1/1s 2/1s"),
		  "unknown units and missing pieces are refused");
	check(refused("A:1/1s") && refused(":1/1s") && refused("1a:1/1s") && refused("abcdefghijklmnop:1/1s") &&
		  !refused("abcdefghijklmno:1/1s"), "bucket names are checked");
	check(refused("1/1s,2/1s") && refused("1/60s,2/1min") && !refused("1/1s,a:2/1s"), "a window may be named only once");
	check(refused("1/1s,1/2s,1/3s,1/4s,1/5s") && !refused("1/1s,1/2s,1/3s,1/4s"), "at most four windows in a bucket");
	check(refused("1/1s,a:1/1s,b:1/1s,c:1/1s,d:1/1s") && !refused("1/1s,a:1/1s,b:1/1s,c:1/1s"), "at most four buckets");
	check(rate_parse("1/1s,1/2s", specs, 1, error, sizeof(error)) == -1, "no more specs than there is room for");
}

int
main(void)
{
	test_random_histories();
	test_full_use();
	test_late_stamps();
	test_parties();
	test_count_since();
	test_carry();
	test_carry_coarse();
	test_memory();
	test_margins();
	test_parse();
	printf("%d passed, %d failed\n", passed, failed);
	return failed ? 1 : 0;
}
