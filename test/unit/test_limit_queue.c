// SRC: src/limit_queue.c src/rate_window.c src/rate_spec.c  LIBS:
/*
 * test_limit_queue.c - who gets the next slot: several simulated workers and the sync process on
 * one record, on a simulated clock, with random delays between a wake-up and the turn that it
 * causes, and between a grant and the send.
 */
#include "../../src/limit_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S INT64_C(1000000)
#define NEVER INT64_MAX
#define SYNC 64
#define MAX_WAITS 60000

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

/* ---- a worker as pacer.c makes it ---- */

typedef struct Sent				/* granted; goes out (or is cancelled) at `at` */
{
	int64_t		at;
	bool		cancel;
} Sent;

typedef struct Worker
{
	uint64_t	tickets[MAX_WAITS];
	int			first;
	int			n;				/* tickets[first..n) wait */
	int			wanted;			/* the sync: how many it wants */
	int64_t		turn_at;		/* the next turn of its loop */
	int64_t		hung_until;
	bool		dead;
	Sent		sends[4096];
	int			nsends;
	int			granted;
} Worker;

typedef struct Sim
{
	LimitQueue	queue;
	LimitWindows *windows;
	RateSpec	specs[RATE_MAX_WINDOWS];
	int			nspecs;
	Worker		workers[LIMIT_PLACES];
	int64_t		now;
	int64_t		wake_delay;		/* at most */
	int64_t		send_delay;
	int			cancel_percent;
	int64_t		stamps[MAX_WAITS];
	uint8_t		parties[MAX_WAITS];	/* who sent it */
	int			nstamps;
	int			takes;			/* calls of limit_queue_take */
	uint64_t	owners[MAX_WAITS];	/* of each ticket; + 1 */
	bool		out_of_order;
	bool		sync_first;
	bool		over_share;		/* the sync went first, and beyond its share */
} Sim;

static Sim sim;

static void
sim_start(const char *limits)
{
	char		error[200];

	free(sim.windows);
	memset(&sim, 0, sizeof(sim));
	sim.nspecs = rate_parse(limits, sim.specs, RATE_MAX_WINDOWS, error, sizeof(error));
	sim.windows = malloc(limit_windows_size(sim.specs, sim.nspecs));
	limit_windows_init(sim.windows, sim.specs, sim.nspecs);
	limit_queue_init(&sim.queue);
	sim.now = 1000 * S;
	sim.wake_delay = 500;
	sim.send_delay = 2000;
	for (int i = 0; i < LIMIT_PLACES; i++)
		sim.workers[i].turn_at = NEVER;
}

static void
turn_by(Worker *worker, int64_t at)
{
	if (at < worker->turn_at)
		worker->turn_at = at;
}

static void
sim_wake(const LimitSet *wake)
{
	for (int i = limit_set_next(wake, 0); i >= 0; i = limit_set_next(wake, i + 1))
		turn_by(&sim.workers[i], sim.now + (int64_t) roll(sim.wake_delay + 1));
}

static void
sim_arrive(int place)
{
	Worker	   *worker = &sim.workers[place];
	uint64_t	ticket = limit_queue_ticket(&sim.queue, place);

	worker->tickets[worker->n++] = ticket;
	turn_by(worker, sim.now);
}

static bool
lower_ticket_waits(uint64_t ticket)
{
	for (int i = 0; i < SYNC; i++)
	{
		Worker	   *worker = &sim.workers[i];

		if (!worker->dead && worker->hung_until <= sim.now && worker->first < worker->n &&
			worker->tickets[worker->first] < ticket)
			return true;
	}
	return false;
}

static void
sim_publish(int place)
{
	Worker	   *worker = &sim.workers[place];
	LimitSet	wake = {0};
	int			waiting = worker->n - worker->first;

	limit_queue_publish(&sim.queue, sim.windows, place, waiting > 0 ? worker->tickets[worker->first] : 0, waiting, sim.now,
						&wake);
	sim_wake(&wake);
}

static void
sim_granted(Worker *worker)
{
	Sent	   *sent = &worker->sends[worker->nsends++];

	sent->at = sim.now + roll(sim.send_delay + 1);
	sent->cancel = (int) roll(100) < sim.cancel_percent;
	worker->granted++;
	turn_by(worker, sent->at);
}

static bool
sim_take(int place, LimitParty party, uint64_t ticket)
{
	LimitSet	wake = {0};
	int64_t		retry = 0;
	bool		ok = limit_queue_take(&sim.queue, sim.windows, place, party, ticket, sim.now, &retry, &wake);

	sim.takes++;
	sim_wake(&wake);
	if (!ok && retry < NEVER)
		turn_by(&sim.workers[place], retry > sim.now ? retry + (int64_t) roll(sim.wake_delay + 1) : sim.now + 1);
	return ok;
}

static void
proxy_turn(int place)
{
	Worker	   *worker = &sim.workers[place];

	while (worker->first < worker->n && sim_take(place, LIMIT_PROXY, worker->tickets[worker->first]))
	{
		sim.out_of_order |= lower_ticket_waits(worker->tickets[worker->first]);
		worker->first++;
		sim_granted(worker);
		if (worker->first < worker->n)
			sim_publish(place);
	}
}

/* By the test's own account: what the sync sent within the period, and what it is about to send. */
static int
sync_count(int64_t period_us)
{
	int			n = sim.workers[SYNC].nsends;

	for (int i = sim.nstamps - 1; i >= 0 && sim.now - sim.stamps[i] < period_us; i--)
		n += sim.parties[i] == LIMIT_SYNC;
	return n;
}

static int
share_of_limit(int64_t limit, double share)
{
	int			n = (int) (limit * share + 1e-6);

	return n < 1 ? 1 : n;
}

static void
sync_turn(Worker *worker)
{
	while (worker->wanted > 0 && sim_take(SYNC, LIMIT_SYNC, 0))
	{
		bool		first = lower_ticket_waits(UINT64_MAX);

		worker->wanted--;
		sim_granted(worker);
		sim.sync_first |= first;
		for (int k = 0; k < sim.nspecs && first; k++)
			sim.over_share |= sim.queue.sync_share == 0 ||
				sync_count(sim.specs[k].period_us) > share_of_limit(sim.specs[k].limit, sim.queue.sync_share);
	}
}

static void
send_due(int place)
{
	Worker	   *worker = &sim.workers[place];
	LimitParty	party = place == SYNC ? LIMIT_SYNC : LIMIT_PROXY;

	for (int i = 0; i < worker->nsends; i++)
	{
		Sent		sent = worker->sends[i];
		LimitSet	wake = {0};

		if (sent.at > sim.now)
		{
			turn_by(worker, sent.at);
			continue;
		}
		worker->sends[i--] = worker->sends[--worker->nsends];
		if (sent.cancel)
			limit_queue_cancel(&sim.queue, sim.windows, place, party, sim.now, &wake);
		else
		{
			sim.parties[sim.nstamps] = party;
			sim.stamps[sim.nstamps++] = sim.now;
			limit_queue_sent(&sim.queue, sim.windows, place, party, sim.now, &wake);
		}
		sim_wake(&wake);
	}
}

static int
next_worker(void)
{
	int			next = -1;

	for (int i = 0; i < LIMIT_PLACES; i++)
	{
		Worker	   *worker = &sim.workers[i];

		if (worker->dead || worker->turn_at == NEVER)
			continue;
		if (worker->turn_at < worker->hung_until)
			worker->turn_at = worker->hung_until;
		if (next < 0 || worker->turn_at < sim.workers[next].turn_at)
			next = i;
	}
	return next;
}

/* Runs until then; returns false when nothing was left to do before that. */
static bool
sim_run(int64_t until)
{
	for (;;)
	{
		int			place = next_worker();

		if (place < 0 || sim.workers[place].turn_at >= until)
		{
			sim.now = until;
			return place >= 0;
		}
		if (sim.workers[place].turn_at > sim.now)
			sim.now = sim.workers[place].turn_at;
		sim.workers[place].turn_at = NEVER;
		send_due(place);
		if (place == SYNC)
			sync_turn(&sim.workers[SYNC]);
		else
			proxy_turn(place);
	}
}

static bool
limits_held(void)
{
	/* stamps of different workers are made in the order of simulated time */
	for (int k = 0; k < sim.nspecs; k++)
		for (int i = 0, j = 0; j < sim.nstamps; j++)
		{
			while (sim.stamps[j] - sim.stamps[i] > sim.specs[k].period_us)
				i++;
			if (j - i + 1 > sim.specs[k].limit)
				return false;
		}
	return true;
}

static int
stamps_between(int64_t from, int64_t to)
{
	int			n = 0;

	for (int i = 0; i < sim.nstamps; i++)
		n += sim.stamps[i] >= from && sim.stamps[i] < to;
	return n;
}

static int
stamps_of(LimitParty party, int64_t from, int64_t to)
{
	int			n = 0;

	for (int i = 0; i < sim.nstamps; i++)
		n += sim.parties[i] == party && sim.stamps[i] >= from && sim.stamps[i] < to;
	return n;
}

static int
by_time(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

/* As the API's clock sees it, each request on its way for another while, up to each window's margin. */
static bool
limits_held_at_api(void)
{
	static int64_t arrivals[MAX_WAITS];

	for (int k = 0; k < sim.nspecs; k++)
	{
		int64_t		jitter = limit_window(sim.windows, k)->margin_us;

		for (int i = 0; i < sim.nstamps; i++)
			arrivals[i] = sim.stamps[i] + (roll(2) ? 0 : (int64_t) roll(jitter + 1));
		qsort(arrivals, sim.nstamps, sizeof(int64_t), by_time);
		for (int j = (int) sim.specs[k].limit; j < sim.nstamps; j++)
			if (arrivals[j] - arrivals[j - sim.specs[k].limit] < sim.specs[k].period_us)
				return false;
	}
	return true;
}

static void
set_share(double share)
{
	LimitSet	wake = {0};

	limit_queue_set_share(&sim.queue, sim.windows, share, sim.now, &wake);
	sim_wake(&wake);
}

static void
sync_wants(int n)
{
	sim.workers[SYNC].wanted += n;
	turn_by(&sim.workers[SYNC], sim.now);
}

static int
waiting_now(void)
{
	int			n = sim.workers[SYNC].wanted;

	for (int i = 0; i < SYNC; i++)
		n += sim.workers[i].dead ? 0 : sim.workers[i].n - sim.workers[i].first;
	return n;
}

/* ---- tests ---- */

static void
test_full_use(void)
{
	static const char *const limits[] = {"4/1s", "100/10s", "100/10s,250000/1d", "5/1s,40/10s"};
	static const int most[] = {4, 10, 10, 4};	/* per second */

	for (int k = 0; k < 4; k++)
	{
		char		name[100];
		int64_t		start;
		int			sent;

		sim_start(limits[k]);
		start = sim.now;
		for (int i = 0; i < 800; i++)
			sim_arrive(i % 5);
		sim.workers[SYNC].wanted = 10000;
		turn_by(&sim.workers[SYNC], sim.now);
		sim_run(start + 120 * S);
		sent = stamps_between(start + 60 * S, start + 120 * S);
		printf("# %s: %d of %d in the second minute\n", limits[k], sent, most[k] * 60);
		snprintf(name, sizeof(name), "%s: at least 98 %% of the limit is used while there is work", limits[k]);
		check(sent >= most[k] * 60 * 0.98, name);
		snprintf(name, sizeof(name), "%s: and never more than the limit", limits[k]);
		check(limits_held(), name);
		check(!sim.out_of_order && !sim.sync_first, "in ticket order across five workers, the sync after them");
	}
}

static void
test_proxy_first(void)
{
	int64_t		start;
	bool		each = true;

	sim_start("3/1s");
	start = sim.now;
	sim.workers[SYNC].wanted = 1000;
	turn_by(&sim.workers[SYNC], sim.now);
	for (int second = 0; second < 60; second++)
	{
		int			before = sim.workers[SYNC].granted;

		/* the proxy's two of each second */
		sim_run(start + second * S);
		sim_arrive(0);
		sim_run(start + second * S + S / 2);
		sim_arrive(1);
		sim_run(start + (second + 1) * S);
		if (second > 2)
			each &= sim.workers[SYNC].granted - before <= 2;
	}
	printf("# 3/s, 2 proxied a second, for 60 s: proxied %d, sync %d\n", sim.workers[0].granted + sim.workers[1].granted,
		   sim.workers[SYNC].granted);
	check(sim.workers[0].granted + sim.workers[1].granted >= 118, "with 3/s the proxy's two requests a second all go out");
	check(sim.workers[SYNC].granted >= 58 && sim.workers[SYNC].granted <= 63 && each, "and the sync gets the third");
	check(!sim.sync_first && limits_held(), "never before a proxied request that waits");
}

/* With 3/s, two proxied requests come in each second, always at the same two moments of it. */
static void
test_third_slot(void)
{
	int			most = 0;
	int			sync = 0;
	bool		good = true;

	for (int round = 0; round < 50; round++)
	{
		int64_t		start;
		int64_t		first = roll(S / 2);
		int64_t		second = S / 2 + roll(S / 2);

		sim_start("3/1s");
		start = sim.now;
		sync_wants(1000);
		for (int i = 0; i < 60; i++)
		{
			sim_run(start + i * S + first);
			sim_arrive(roll(8));
			sim_run(start + i * S + second);
			sim_arrive(roll(8));
		}
		sim_run(start + 60 * S);
		for (int i = 3; i < 60; i++)
		{
			int			n = stamps_of(LIMIT_SYNC, start + i * S, start + (i + 1) * S);

			most = n > most ? n : most;
			sync += n;
		}
		good &= stamps_of(LIMIT_PROXY, start, start + 60 * S) >= 119 && limits_held() && !sim.sync_first;
	}
	printf("# 3/s, 2 proxied a second, 50 x 57 s: the sync %.3f a second, %d in a second at most\n", sync / (50.0 * 57), most);
	check(good, "two proxied requests a second all go out");
	check(sync >= 50 * 55 && most == 1, "and the sync sends one in each, never two");
}

/* The same at random times: a proxied request waits for a slot that comes free, never for the sync's turn. */
static void
test_third_slot_random(void)
{
	int64_t		longest = 0;
	double		sent = 0;
	bool		good = true;

	for (int round = 0; round < 20; round++)
	{
		int64_t		start;
		int64_t		next;
		int			arrived = 0;

		sim_start("3/1s");
		next = start = sim.now;
		sync_wants(1000);
		while (next < start + 60 * S)
		{
			int64_t		at;

			sim_run(next);
			at = sim.now;
			sim_arrive(roll(8));
			arrived++;
			while (waiting_now() > sim.workers[SYNC].wanted)
				sim_run(sim.now + 1000);
			longest = sim.now - at > longest ? sim.now - at : longest;
			next += S / 4 + roll(S / 2);
			next = next > sim.now ? next : sim.now;
		}
		sim_run(start + 62 * S);
		good &= stamps_of(LIMIT_PROXY, start, start + 62 * S) == arrived && limits_held() && !sim.sync_first;
		sent += stamps_between(start, start + 60 * S) / 180.0 / 20;
	}
	printf("# 3/s, 2 proxied a second at random times, 20 x 60 s: %.4f used, longest wait %.0f ms\n", sent, longest / 1000.0);
	check(good && sent >= 0.98, "at random times too, and the whole limit is used");
	check(longest < S + 30000, "a proxied request that waits gets the very next slot");
}

/* While the sync takes all there is, a proxied request now and then: how long does it wait? */
static void
test_wait_beside_sync(void)
{
	static const struct
	{
		const char *limits;
		int			most_ms;
	}			cases[] = {{"4/1s", 300}, {"5/1s", 250}, {"20/1s", 150}, {"100/10s", 400}, {"190/10s", 300}, {"100/10s,1000/1min", 1700}};

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
	{
		int64_t		longest = 0;
		int64_t		sum = 0;
		int64_t		from;
		char		name[100];

		sim_start(cases[k].limits);
		sync_wants(30000);
		sim_run(sim.now + 180 * S);
		from = sim.now;
		for (int i = 0; i < 200; i++)
		{
			int64_t		at;

			sim_run(sim.now + S + roll(4 * S));
			at = sim.now;
			sim_arrive(roll(5));
			while (waiting_now() > sim.workers[SYNC].wanted)
				sim_run(sim.now + 1000);
			longest = sim.now - at > longest ? sim.now - at : longest;
			sum += sim.now - at;
		}
		printf("# %s, all of it the sync's but for a request now and then: that waits %.0f ms, at most %.0f; %d a minute\n",
			   cases[k].limits, sum / 200000.0, longest / 1000.0, (int) (stamps_between(from, sim.now) * 60 * S / (sim.now - from)));
		snprintf(name, sizeof(name), "%s: a proxied request beside the sync waits %d ms at most", cases[k].limits, cases[k].most_ms);
		check(longest <= cases[k].most_ms * 1000 && limits_held() && !sim.sync_first, name);
	}
}

typedef struct Use			/* of a limit by two parties, over ten minutes of each round */
{
	double		least;		/* share of the limit, by both */
	double		least_sync;	/* by the sync alone */
	double		most_sync;
	bool		held;
	bool		order;
	double		takes;		/* per slot, at most */
} Use;

enum Who
{
	ONLY_PROXY, ONLY_SYNC, BOTH
};

#define USE_SECONDS 600

static Use
two_parties(const char *limits, enum Who who, double share, double per_second)
{
	Use			use = {1, 1, 0, true, true, 0};

	for (int round = 0; round < 3; round++)
	{
		const RateSpec *limit = &sim.specs[0];
		int64_t		from;
		int			first;
		int			last;
		double		could;
		double		sent;
		double		sync;

		sim_start(limits);
		sim.now += roll(S);
		from = sim.now + 60 * S;
		sim.wake_delay = 1500;	/* a timer's millisecond, and the scheduler */
		sim.send_delay = 500;
		set_share(share);
		if (who != ONLY_SYNC)
			for (int i = 0; i < per_second * (USE_SECONDS + 70) + 200; i++)
				sim_arrive(roll(5));
		if (who != ONLY_PROXY)
			sync_wants(50000);
		sim_run(from + USE_SECONDS * S);
		/* whole windows full, and how long they took */
		first = sim.nstamps - stamps_between(from, sim.now);
		last = first + (sim.nstamps - 1 - first) / (int) limit->limit * (int) limit->limit;
		could = (sim.stamps[last] - sim.stamps[first]) * (double) limit->limit / limit->period_us;
		sent = (last - first) / could;
		sync = stamps_of(LIMIT_SYNC, sim.stamps[first], sim.stamps[last]) / could;
		use.least = sent < use.least ? sent : use.least;
		use.least_sync = sync < use.least_sync ? sync : use.least_sync;
		use.most_sync = sync > use.most_sync ? sync : use.most_sync;
		use.held &= limits_held() && limits_held_at_api();
		use.order &= !sim.out_of_order && !sim.over_share;
		use.takes = (double) sim.takes / sim.nstamps > use.takes ? (double) sim.takes / sim.nstamps : use.takes;
	}
	return use;
}

static void
test_two_parties(void)
{
	static const struct
	{
		const char *limits;
		double		per_second;
		int			first;
	}			cases[] = {{"4/1s", 4, 4}, {"5/1s", 5, 5}, {"8/2s", 4, 8}, {"100/10s", 10, 100}, {"190/10s", 19, 190},
	{"20/1s,50000/1d", 20, 20}, {"3000/1min", 50, 3000}};

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
	{
		double		n = cases[k].per_second;
		Use			proxy = two_parties(cases[k].limits, ONLY_PROXY, 0, n);
		Use			sync = two_parties(cases[k].limits, ONLY_SYNC, 0, n);
		Use			both = two_parties(cases[k].limits, BOTH, 0, n);
		Use			shared = two_parties(cases[k].limits, BOTH, 0.3, n);
		char		name[100];

		printf("# %s: used by the proxy alone %.4f, the sync alone %.4f, both %.4f; with a share of 0.3 both %.4f, the sync %.4f"
			   " to %.4f, %.1f takes a slot\n", cases[k].limits, proxy.least, sync.least, both.least, shared.least,
			   shared.least_sync, shared.most_sync, shared.takes);
		snprintf(name, sizeof(name), "%s: at least 98 %% is used by either party alone and by both", cases[k].limits);
		check(proxy.least >= 0.98 && sync.least >= 0.98 && both.least >= 0.98 && shared.least >= 0.98, name);
		snprintf(name, sizeof(name), "%s: and never more than the limit, as the API sees it", cases[k].limits);
		check(proxy.held && sync.held && both.held && shared.held, name);
		check(both.most_sync == 0 && both.order, "under a flood of proxied requests the sync has nothing");
		check(shared.most_sync <= 0.3 && shared.order, "with a share of 0.3 no more than that");
		check(shared.least_sync >= 0.98 * share_of_limit(cases[k].first, 0.3) / cases[k].first && shared.takes < 6, "but no less, and nobody asks in vain all the time");
	}
}

static void
test_share(void)
{
	static const struct
	{
		const char *limits;
		double		share;
		int			least;		/* the sync's in 60 s under a flood */
		int			most;
		int			all;
	}			cases[] = {{"4/1s", 0.1, 58, 61, 236}, {"10/1s", 0.9, 525, 545, 588}, {"1/1s", 0.1, 29, 31, 58},
	{"1/2s,30/10s", 0.9, 14, 16, 29}, {"100/10s", 0.05, 29, 31, 588}, {"4/1s,10/10s", 0.1, 5, 7, 59}};

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++)
	{
		int64_t		from;
		int			sync;
		int			all;
		char		name[100];

		sim_start(cases[k].limits);
		from = sim.now + 60 * S;
		set_share(cases[k].share);
		for (int i = 0; i < 1500; i++)
			sim_arrive(i % 3);
		sync_wants(5000);
		sim_run(from + 60 * S);
		sync = stamps_of(LIMIT_SYNC, from, from + 60 * S);
		all = stamps_between(from, from + 60 * S);
		printf("# %s with a share of %g under a flood: %d in a minute, %d of them the sync's\n", cases[k].limits, cases[k].share,
			   all, sync);
		snprintf(name, sizeof(name), "%s with a share of %g: the sync has it", cases[k].limits, cases[k].share);
		check(sync >= cases[k].least && sync <= cases[k].most && all >= cases[k].all && limits_held(), name);
	}
}

static void
test_share_unwanted(void)
{
	int64_t		start;
	LimitSet	wake = {0};
	int64_t		retry;
	int			before;

	sim_start("4/1s");
	set_share(0.9);
	start = sim.now;
	for (int i = 0; i < 400; i++)
		sim_arrive(i % 3);
	sim_run(start + 60 * S);
	check(stamps_of(LIMIT_PROXY, start, start + 60 * S) >= 236, "a share that the sync does not want is the proxy's");

	(void) limit_queue_take(&sim.queue, sim.windows, SYNC, LIMIT_SYNC, 0, sim.now, &retry, &wake);
	check(retry < sim.now + S, "a refused sync that has a share is told when to come");
	start = sim.now;
	before = sim.nstamps;
	sim_run(start + 10 * S);
	printf("# the sync asked once and never came: %d proxied in 10 s\n", sim.nstamps - before);
	check(sim.nstamps - before >= 39 && limits_held(), "and one that does not come for it costs the proxy a moment, once");

	set_share(0);
	sync_wants(10);
	start = sim.now;
	sim_run(start + 5 * S);
	check(stamps_of(LIMIT_SYNC, start, start + 5 * S) == 0, "a share taken away while it runs is gone");
	set_share(0.5);
	sim_run(start + 6 * S + S / 2);
	check(stamps_of(LIMIT_SYNC, start + 5 * S, start + 6 * S + S / 2) >= 2, "and one given wakes the sync that waits");
}

static bool
ask(int place, LimitParty party, uint64_t ticket, int64_t *retry, LimitSet *wake)
{
	memset(wake, 0, sizeof(LimitSet));
	return limit_queue_take(&sim.queue, sim.windows, place, party, ticket, sim.now, retry, wake);
}

/* Step by step: who is refused, called and told what around a slot that is the sync's. */
static void
test_hold(void)
{
	RateWindow *w;
	LimitSet	wake;
	int64_t		retry;
	int64_t		next;
	uint64_t	tickets[3];

	sim_start("2/1s");
	w = limit_window(sim.windows, 0);
	next = sim.now + w->period_us + w->margin_us;
	rate_window_charge(w, sim.now, 2);
	for (int i = 0; i < 3; i++)
		tickets[i] = limit_queue_ticket(&sim.queue, 0);
	check(!ask(SYNC, LIMIT_SYNC, 0, &retry, &wake) && retry == next + LIMIT_STUCK_US,
		  "without a share the sync waits for a proxied request to miss its turn");
	memset(&wake, 0, sizeof(wake));
	limit_queue_set_share(&sim.queue, sim.windows, 0.1, sim.now, &wake);
	check(limit_set_has(&wake, SYNC), "a share calls it");
	check(!ask(SYNC, LIMIT_SYNC, 0, &retry, &wake) && retry == next, "and then it is told when the slot comes free");
	check(!ask(0, LIMIT_PROXY, tickets[0], &retry, &wake) && retry == next, "as is the first proxied request");

	sim.now = next;
	check(!ask(0, LIMIT_PROXY, tickets[0], &retry, &wake) && retry == next + LIMIT_SYNC_PATIENCE_US,
		  "which is refused when it comes before the sync does");
	check(!limit_set_has(&wake, 0), "and not called at once again");
	check(ask(SYNC, LIMIT_SYNC, 0, &retry, &wake) && limit_set_has(&wake, 0), "the sync takes its slot and calls it for the other");
	check(ask(0, LIMIT_PROXY, tickets[0], &retry, &wake), "which it gets");
	limit_queue_publish(&sim.queue, sim.windows, 0, tickets[1], 2, sim.now, &wake);
	limit_queue_sent(&sim.queue, sim.windows, 0, LIMIT_PROXY, sim.now, &wake);
	limit_queue_sent(&sim.queue, sim.windows, SYNC, LIMIT_SYNC, sim.now, &wake);

	sim.now += w->period_us + w->margin_us;
	check(ask(0, LIMIT_PROXY, tickets[1], &retry, &wake), "nothing is held for a sync that asks no more");
	limit_queue_publish(&sim.queue, sim.windows, 0, tickets[2], 1, sim.now, &wake);
	check(ask(0, LIMIT_PROXY, tickets[2], &retry, &wake), "neither slot");
}

/* Workers and the sync die and come back at any time, some hang; in the end no slot is missing. */
static void
test_many_deaths(void)
{
	bool		held = true;
	bool		whole = true;
	bool		served = true;

	for (int round = 0; round < 200; round++)
	{
		int			limit = 1 + roll(12);
		char		limits[50];

		snprintf(limits, sizeof(limits), "%d/1s,%d/10s", limit, limit * 7);
		sim_start(limits);
		set_share(roll(2) ? 0 : roll(10) / 10.0);
		sim.send_delay = roll(2) ? 2000 : S / 2;
		sim.cancel_percent = roll(2) ? 0 : 20;
		for (int i = 0; i < 200; i++)
		{
			int			place = roll(8) == 0 ? SYNC : (int) roll(5);
			Worker	   *worker = &sim.workers[place];
			LimitSet	wake = {0};

			if (roll(4) == 0)
				sync_wants(3);
			sim_arrive(roll(5));
			sim_run(sim.now + roll(2) * roll(S / 4));
			if (roll(10) == 0)
				worker->hung_until = sim.now + roll(S);
			if (roll(10) != 0)
				continue;
			/* what it had granted may have gone out or not; its successor knows nothing */
			for (int j = 0; j < worker->nsends; j++)
			{
				sim.parties[sim.nstamps] = place == SYNC ? LIMIT_SYNC : LIMIT_PROXY;
				sim.stamps[sim.nstamps++] = sim.now;
			}
			worker->nsends = worker->wanted = 0;
			worker->first = worker->n;
			worker->hung_until = 0;
			limit_queue_vacate(&sim.queue, sim.windows, place, sim.now, &wake);
			sim_wake(&wake);
		}
		served &= !sim_run(sim.now + 1000 * S) && waiting_now() == 0;
		held &= limits_held() && limits_held_at_api();
		whole &= limit_queue_idle(&sim.queue) && limit_queue_reserved(&sim.queue, LIMIT_PROXY) == 0 &&
			limit_queue_reserved(&sim.queue, LIMIT_SYNC) == 0;
		for (int k = 0; k < sim.nspecs; k++)
			whole &= rate_window_count(limit_window(sim.windows, k), sim.now) == 0;
	}
	check(held, "dying workers: no window is ever exceeded");
	check(served, "dying workers: everybody else is served");
	check(whole, "dying workers: no slot is leaked, no reservation left");
}

/* A worker is stuck with a ticket that waits: the sync does not stand still for it. */
static void
test_stuck_worker(void)
{
	int64_t		start;

	sim_start("10/1s");
	start = sim.now;
	sim.workers[0].hung_until = start + 5 * S;
	sim_arrive(0);
	sync_wants(1000);
	sim_run(start + LIMIT_STUCK_US / 2);
	check(sim.workers[SYNC].granted == 0, "the sync lets a late worker go first");
	sim_run(start + 5 * S);
	check(sim.workers[SYNC].granted >= 40, "but does not stand still for one that is stuck");
	sim_run(start + 6 * S);
	check(sim.workers[0].granted == 1 && limits_held(), "which is served when it is back");
}

static void
test_random_traffic(void)
{
	bool		order = true;
	bool		held = true;
	bool		served = true;
	bool		sync_last = true;
	bool		share_kept = true;

	for (int round = 0; round < 400; round++)
	{
		double		share = roll(2) ? 0 : roll(10) / 10.0;
		char		limits[50];
		int			nworkers = 1 + roll(8);

		snprintf(limits, sizeof(limits), "%d/%ds,%d/%ds", (int) (1 + roll(20)), (int) (1 + roll(3)), (int) (20 + roll(100)),
				 (int) (5 + roll(10)));
		sim_start(limits);
		set_share(share);
		sim.wake_delay = roll(5000);
		sim.send_delay = roll(3) ? roll(3000) : roll(2 * S);
		sim.cancel_percent = roll(2) ? 0 : 30;
		for (int i = 0; i < 300; i++)
		{
			if (roll(4) == 0)
				sim.workers[SYNC].wanted++, turn_by(&sim.workers[SYNC], sim.now);
			else
				sim_arrive(roll(nworkers));
			sim_run(sim.now + roll(2) * roll(S / 2));
		}
		served &= !sim_run(sim.now + 10000 * S) && waiting_now() == 0;
		order &= !sim.out_of_order;
		sync_last &= share > 0 || !sim.sync_first;
		share_kept &= !sim.over_share;
		held &= limits_held() && limits_held_at_api();
	}
	check(order, "random traffic: first come first served across workers");
	check(sync_last, "random traffic: the sync never goes before a waiting proxied request");
	check(share_kept, "random traffic: nor, with a share, beyond that");
	check(held, "random traffic: no window is ever exceeded, as the API sees it");
	check(served, "random traffic: nobody waits for ever (no wake-up is lost)");
}

static void
test_death(void)
{
	int64_t		start;
	LimitSet	wake = {0};

	sim_start("2/1s");
	sim.send_delay = 0;
	sim_arrive(0);
	sim_arrive(0);
	sim_arrive(0);
	sim_arrive(1);
	sim.send_delay = 100 * S;
	sim_run(sim.now + 10000);
	check(sim.workers[0].granted == 2 && sim.workers[1].granted == 0, "two slots go to the first two tickets");
	start = sim.now;
	sim.workers[0].dead = true;
	limit_queue_vacate(&sim.queue, sim.windows, 0, sim.now, &wake);
	sim_wake(&wake);
	sim.send_delay = 0;
	sim_run(start + S);
	check(sim.workers[1].granted == 0, "a dead worker's reservations count as sent");
	sim_run(start + S + S / 10);
	check(sim.workers[1].granted == 1, "and come back after the period: no slot leaks, its waiters are forgotten");
}

static void
test_patience(void)
{
	int64_t		start;

	sim_start("1/1s");
	start = sim.now;
	for (int i = 0; i < 4; i++)
		sim_arrive(i % 2);
	sim.workers[0].hung_until = start + 3 * S;
	sim_run(start + 10000);
	check(sim.workers[1].granted == 0, "a worker that is not back yet keeps its turn for a moment");
	sim_run(start + LIMIT_PATIENCE_US + 10000);
	check(sim.workers[1].granted == 1, "then the next one goes before it: no slot is wasted on a busy worker");
	sim_run(start + 2 * S);
	check(sim.workers[1].granted == 2, "and for the next slot nobody waits for the busy one again");
	sim_run(start + 10 * S);
	check(sim.workers[0].granted == 2 && limits_held(), "the busy one is served when it is back");

	sim_start("1/1s");
	start = sim.now;
	for (int i = 0; i < 3; i++)
		sim_arrive(i / 2);
	sim_run(start + 10000);
	sim.workers[0].hung_until = start + 5 * S;
	sim_run(start + 11 * S / 10);
	check(sim.workers[0].granted == 1 && sim.workers[1].granted == 1,
		  "a worker that gets busy while it waits holds up a slot for a moment only");
}

static void
test_cancel_and_blocks(void)
{
	int64_t		start;
	LimitSet	wake = {0};

	sim_start("1/10s");
	sim.send_delay = 300000;
	sim.cancel_percent = 100;
	start = sim.now;
	sim_arrive(0);
	sim_run(start + 10);
	sim.cancel_percent = 0;
	sim_arrive(1);
	sim_run(start + S);
	check(sim.workers[1].granted == 1, "a cancelled slot goes to the next at once");

	sim_start("10/1s");
	start = sim.now;
	limit_queue_block(&sim.queue, start + 5 * S);
	limit_queue_block(&sim.queue, start + 2 * S);
	sim_arrive(0);
	sim.workers[SYNC].wanted = 1;
	turn_by(&sim.workers[SYNC], start);
	sim_run(start + 5 * S - 1);
	check(sim.nstamps == 0, "a block holds everybody, and only ever moves later");
	sim_run(start + 5 * S + 10000);
	check(sim.nstamps == 2, "and ends when it said");

	limit_queue_publish(&sim.queue, sim.windows, 3, 0, 0, sim.now, &wake);
	check(limit_queue_idle(&sim.queue) && limit_queue_waiting(&sim.queue) == 0, "then nothing is left in the queue");
}

static void
test_tighten(void)
{
	RateWindow *w;
	int64_t		now;

	sim_start("10/1s,100/10s");
	w = limit_window(sim.windows, 1);
	now = sim.now;
	rate_window_charge(w, now - S, 30);
	limit_queue_tighten(sim.windows, 10 * S, 80, now, now);
	check(rate_window_count(w, now) == 30, "the API's remaining count never loosens the limit");
	limit_queue_tighten(sim.windows, 10 * S, 50, now, now);
	check(rate_window_count(w, now) == 50, "but tightens it");
	limit_queue_tighten(sim.windows, 10 * S, 50, now, now);
	check(rate_window_count(w, now) == 50, "once");
	limit_queue_tighten(sim.windows, 10 * S, -5, now, now);
	check(rate_window_count(w, now) == 100, "less than nothing is nothing");
	check(rate_window_count(limit_window(sim.windows, 0), now) == 0, "only the window that it spoke of");
}

/* An API with the same limit, its clock `delay` behind ours, that tells its remaining count with every answer. */
static void
test_tighten_alone(void)
{
	int64_t		delay = 300000;
	int			seen = 0;
	int64_t		start;
	int			sent;

	sim_start("20/2s");
	start = sim.now;
	/* spread evenly, so that slots come free one by one while answers are on their way */
	for (int arrived = 0; sim.now < start + 120 * S; arrived++)
	{
		sim_arrive(0);
		sim_run(sim.now + (arrived < 21 ? 100000 : 50000));
		for (; seen < sim.nstamps && sim.stamps[seen] + 2 * delay <= sim.now; seen++)
		{
			int64_t		at_api = sim.stamps[seen] + delay;
			int			counted = stamps_between(at_api - delay - 2 * S + 1, at_api - delay + 1);

			limit_queue_tighten(sim.windows, 2 * S, 20 - counted, sim.stamps[seen], sim.now);
		}
	}
	sent = stamps_between(start + 60 * S, start + 120 * S);
	printf("# 20/2s with stale remaining counts: %d of 600\n", sent);
	check(sent >= 588 && limits_held(), "a remaining count that is old when it arrives costs an only user nothing");
}

/* Twenty sends in 1.9 s, then a pause: the answer to the last one says "0 left" of what it saw 0.5 s ago. */
static void
test_tighten_stale(void)
{
	RateWindow *w;
	int64_t		now;

	sim_start("20/2s");
	w = limit_window(sim.windows, 0);
	for (int i = 0; i < 20; i++)
	{
		rate_window_reserve(w);
		rate_window_stamp(w, sim.now + i * 100000, 1, LIMIT_PROXY);
	}
	now = sim.now + 1900000 + 500000;
	limit_queue_tighten(sim.windows, 2 * S, 0, sim.now + 1900000, now);
	check(rate_window_count(w, now) == 16, "what has expired here since the request was sent is not charged again");
	limit_queue_tighten(sim.windows, 2 * S, 0, sim.now + 1900000 + 300000, now);
	check(rate_window_count(w, now) == 18, "what had expired before it was sent is somebody else's");
}

static void
test_change(void)
{
	RateSpec	specs[2];
	LimitWindows *to;
	LimitSet	wake = {0};
	int64_t		start;
	char		error[100];
	int			n = rate_parse("8/1s", specs, 2, error, sizeof(error));

	sim_start("4/1s");
	sim.send_delay = 0;
	start = sim.now;
	for (int i = 0; i < 20; i++)
		sim_arrive(i % 3);
	sim_run(start + S / 2);
	check(sim.nstamps == 4, "four go out under 4/1s");
	to = malloc(limit_windows_size(specs, n));
	limit_windows_init(to, specs, n);
	limit_windows_carry(to, sim.windows, &sim.queue, sim.now);
	free(sim.windows);
	sim.windows = to;
	limit_queue_review(&sim.queue, sim.windows, sim.now, &wake);
	sim_wake(&wake);
	sim_run(start + S / 2 + 100000);
	check(sim.nstamps == 8, "after the change to 8/1s four more, at once");
	check(limit_window(sim.windows, 0)->reserved == 0, "no reservation is left over");
	check(limit_windows_match(sim.windows, specs, n), "the windows are as the new specs say");
}

static void
test_change_in_flight(void)
{
	RateSpec	specs[2];
	LimitWindows *to;
	LimitSet	wake = {0};
	char		error[100];
	int			n = rate_parse("2/1s", specs, 2, error, sizeof(error));

	sim_start("4/1s");
	sim.send_delay = 0;
	sim_arrive(0);
	sim_run(sim.now + 1);
	sim.workers[0].sends[0].at = sim.now;
	for (int i = 0; i < 3; i++)
	{
		int64_t		retry;
		uint64_t	ticket = limit_queue_ticket(&sim.queue, 1);

		(void) limit_queue_take(&sim.queue, sim.windows, 1, LIMIT_PROXY, ticket, sim.now, &retry, &wake);
	}
	to = malloc(limit_windows_size(specs, n));
	limit_windows_init(to, specs, n);
	limit_windows_carry(to, sim.windows, &sim.queue, sim.now);
	check(limit_window(to, 0)->reserved == 3 && limit_window(to, 0)->logged == 1,
		  "what is in flight while the limit changes is counted under the new one");
	check(!rate_window_free(limit_window(to, 0), sim.now + 5 * S), "even when that is lower");
	free(to);
}

int
main(void)
{
	test_full_use();
	test_proxy_first();
	test_third_slot();
	test_third_slot_random();
	test_wait_beside_sync();
	test_two_parties();
	test_share();
	test_share_unwanted();
	test_hold();
	test_many_deaths();
	test_stuck_worker();
	test_random_traffic();
	test_death();
	test_patience();
	test_cancel_and_blocks();
	test_tighten();
	test_tighten_alone();
	test_tighten_stale();
	test_change();
	test_change_in_flight();
	free(sim.windows);
	printf("%d passed, %d failed\n", passed, failed);
	return failed ? 1 : 0;
}
