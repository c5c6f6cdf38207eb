/* SPDX-License-Identifier: MIT */
/*
 * bench.cc - Google Benchmark behind the C interface of bench.h: with the drivers of peers, the
 * only C++ in the product.
 *
 * With a --benchmark_* flag it is an ordinary Google Benchmark program. Otherwise each suite is
 * run by Google Benchmark with its repetitions interleaved at random, and table.c prints it.
 *
 * A row measures itself, so Google Benchmark sees one batch of n iterations and is told their
 * time by hand; it still chooses n, repeats, interleaves, filters and writes JSON.
 */
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "table.h"

namespace {

const bench_suite *const suites[] = {&switching, &yield,  &spawn,   &parallel, &panic,
                                     &happy,     &wake,   &memory,  &domain,   &handoff,
                                     &timer,     &isolate, &tail,   &workers,  &fanout,
                                     &crowd,     &depth};
constexpr size_t usual = 12; /* the first so many, unless suites are named */

const char usage[] = R"(usage: coir-perf [--quick] [SUITE...]     prints one table
       coir-perf --rows                     lists its rows, for tools/perf
       coir-perf --benchmark_...            as Google Benchmark does

suites: switching yield spawn parallel panic happy wake memory domain handoff timer isolate, which
        is the default; tail workers fanout crowd depth, which tools/perf sets beside peers
--quick  fewer and shorter repetitions, under 20 seconds
)";

/* -------------------------------------------------------------------------------- rows to runs */

const char *figure_of(const bench_row &row)
{
    return row.unit == BENCH_BYTES ? "bytes" : "p50_ns";
}

void measure(benchmark::State &state, const bench_row &row)
{
    state.SetLabel(row.label);
    while (state.KeepRunningBatch(state.max_iterations)) {
        bench b = {};

        b.n = static_cast<uint64_t>(state.max_iterations);
        row.fn(&b, row.arg);
        if (b.error) {
            state.SkipWithError(b.error);
            break;
        }
        double n = static_cast<double>(b.n), done = b.done ? static_cast<double>(b.done) : n;
        state.SetIterationTime(static_cast<double>(b.ns) * 1e-9 * n / done);
        if (row.unit != BENCH_NS)
            state.counters[figure_of(row)] = b.figure;
        if (b.p99 > 0) {
            state.counters["p99_ns"] = b.p99;
            state.counters["p999_ns"] = b.p999;
        }
        if (b.ruler > 0)
            state.counters["ruler_ns"] = b.ruler;
        if (b.ruler_p99 > 0)
            state.counters["ruler_p99_ns"] = b.ruler_p99;
    }
}

void register_rows()
{
    for (const bench_suite *suite : suites)
        for (size_t i = 0; i < suite->count; i++) {
            const bench_row &row = suite->row[i];
            auto *b = benchmark::RegisterBenchmark(
                row.name, [&row](benchmark::State &state) { measure(state, row); });

            b->UseManualTime()->Unit(benchmark::kNanosecond);
            if (row.n)
                b->Iterations(static_cast<benchmark::IterationCount>(row.n));
        }
}

/* ------------------------------------------------------------------------------- runs to table */

/* Collects the repetitions of one suite. */
class Collector : public benchmark::BenchmarkReporter {
public:
    explicit Collector(const bench_suite &of) : suite(of), result(of.count)
    {
    }
    bool ReportContext(const Context &) override
    {
        return true;
    }
    void ReportRuns(const std::vector<Run> &runs) override
    {
        for (const Run &run : runs)
            for (size_t i = 0; i < suite.count; i++)
                if (run.run_type == Run::RT_Iteration &&
                    run.run_name.function_name == suite.row[i].name)
                    add(result[i], suite.row[i], run);
    }

    const bench_suite &suite;
    std::vector<table_result> result;

private:
    static void add(table_result &to, const bench_row &row, const Run &run)
    {
        auto ruler = run.counters.find("ruler_ns");

        if (run.error_occurred) {
            std::snprintf(to.error, sizeof to.error, "%s", run.error_message.c_str());
        } else if (to.count < TABLE_RUNS) {
            to.ruler[to.count] = ruler != run.counters.end() ? ruler->second.value : 0;
            to.run[to.count++] = row.unit == BENCH_NS
                                     ? run.GetAdjustedRealTime()
                                     : run.counters.at(figure_of(row)).value;
        }
    }
};

void run_table(bool quick, const std::vector<const bench_suite *> &chosen)
{
    const unsigned repetitions = quick ? 5 : 9;
    std::string repeat = "--benchmark_repetitions=" + std::to_string(repetitions);
    std::string time = quick ? "--benchmark_min_time=0.01" : "--benchmark_min_time=0.1";
    std::string mix = "--benchmark_enable_random_interleaving=true", name = "coir-perf";
    char *args[] = {name.data(), repeat.data(), time.data(), mix.data(), nullptr};
    int count = 4;

    benchmark::Initialize(&count, args);
    table_begin(repetitions);
    for (const bench_suite *suite : chosen) {
        Collector collector(*suite);

        benchmark::RunSpecifiedBenchmarks(&collector, "^" + std::string(suite->name) + "/");
        table_suite(suite, collector.result.data());
    }
    table_end();
}

/* -------------------------------------------------------------------------------- command line */

const bench_suite *suite_named(const char *name)
{
    for (const bench_suite *suite : suites)
        if (std::strcmp(suite->name, name) == 0)
            return suite;
    return nullptr;
}

bool for_google(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (std::strncmp(argv[i], "--benchmark", 11) == 0)
            return true;
    return false;
}

int run_google(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
        return 2;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}

/* One line a row, fields between tabs: name, unit, ruler, kind of goal, goal, label. */
int list_rows()
{
    static const char *const unit[] = {"ns", "ns", "B"};
    static const char *const goal[] = {"none", "at_most", "ratio_at_most", "speedup"};

    for (const bench_suite *suite : suites)
        for (size_t i = 0; i < suite->count; i++) {
            const bench_row &row = suite->row[i];

            std::printf("%s\t%s\t%s\t%s\t%g\t%s\n", row.name, unit[row.unit],
                        row.ruler ? row.ruler : "", goal[row.kind], row.goal, row.label);
        }
    return 0;
}

int refuse(const char *what)
{
    std::fprintf(stderr, "coir-perf: %s is not %s; see --help\n", what,
                 *what == '-' ? "an option" : "a suite");
    return 2;
}

} /* namespace */

/* ------------------------------------------------------------------------ rulers that need C++ */

void bench_throw()
{
    throw 1;
}

void bench_catch(void (*fn)(void *arg), void *arg)
{
    try {
        fn(arg);
    } catch (int) {
    }
}

int main(int argc, char **argv)
{
    std::vector<const bench_suite *> chosen;
    bool quick = false;

    register_rows();
    if (for_google(argc, argv))
        return run_google(argc, argv);
    for (int i = 1; i < argc; i++) {
        const bench_suite *suite = suite_named(argv[i]);

        if (std::strcmp(argv[i], "--quick") == 0) {
            quick = true;
        } else if (suite) {
            chosen.push_back(suite);
        } else if (std::strcmp(argv[i], "--rows") == 0) {
            return list_rows();
        } else if (std::strcmp(argv[i], "--help") == 0) {
            std::fputs(usage, stdout);
            return 0;
        } else {
            return refuse(argv[i]);
        }
    }
    if (chosen.empty())
        chosen.assign(std::begin(suites), std::begin(suites) + usual);
    run_table(quick, chosen);
    return 0;
}
