// Plans called from several threads at once, each of which uses the pool: results are those of one
// thread alone, for the same program and for others of the same plan. Operations here are the
// drivers and kernels that those of plans are made of; with ThreadSanitizer it finds what they
// share. Whoever includes it calls run_plans() with kernels: layout, prepare_rows, hold, gemm_u8,
// add, lookup and max.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "qcore/ops/conv/gemm.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/pooling/max.h"
#include "qcore/plan/elementwise.h"
#include "qcore/plan/plan.h"

namespace qcore {
namespace {

using check::draw;

constexpr int64_t kChannels = 24;

// A weighted layer over channels, 1x1 or 3x3, with its weights.
struct Layer {
  PackedWeights weights;
  std::shared_ptr<const Requantization> parameters;
  int64_t kernel;
  Layer(const Kernels& kernels, int64_t kernel_) : kernel(kernel_) {
    const int64_t k = kernel * kernel * kChannels;
    std::vector<int8_t> w(static_cast<size_t>(kChannels * k));
    for (auto& each : w) each = static_cast<int8_t>(draw(-128, 127));
    std::vector<int32_t> zeros(kChannels, 0);
    if (draw(0, 1)) zeros.assign(kChannels, static_cast<int32_t>(draw(-3, 3)));
    const WeightQuantization quantization{std::vector<float>(kChannels, 0.01f), zeros, true};
    const auto at = [&](int64_t, int64_t c, int64_t i) {
      return w[static_cast<size_t>(c * k + i)];
    };
    weights.pack(kernels.layout, {1, kChannels, k, quantization}, at);
    parameters =
        std::make_shared<const Requantization>(weights, QParams{0.1, 7}, QParams{0.2, 120});
  }
};

Windows windows_of(const Extent& x, int64_t kernel) {
  Windows v;
  v.kernel = {1, kernel, kernel};
  v.padding = {0, kernel / 2, kernel / 2};
  v = Windows(v, x.rank, x.size.data());
  v.out = v.in;
  return v;
}

Plan::Operation layer(const Kernels& kernels, std::shared_ptr<const Layer> made) {
  return [&kernels, made = std::move(made)](Program& program, const std::vector<Place>& in) {
    const Place x = program.channels_last(in[0]);
    const Windows v = windows_of(x.extent, made->kernel);
    return program.step({x}, x.extent, 1,
                        [&kernels, made, v](const uint8_t* const* from, uint8_t* to, int threads) {
      const RequantizedOutput out = made->parameters->output(made->weights, to, kChannels, false);
      run_gemm(made->weights, v.pixels(), threads,
               ConvJob(kernels, made->weights, {v, from[0], 7, out}));
    });
  };
}

Plan::Operation max_pool(const Kernels& kernels) {
  return [&kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.channels_last(in[0]);
    const Windows v = windows_of(x.extent, 3);
    return program.step({x}, x.extent, 1,
                        [&kernels, v](const uint8_t* const* from, uint8_t* to, int threads) {
      run_max_pool(kernels, v, from[0], to, threads);
    });
  };
}

Plan::Operation sum(const Kernels& kernels) {
  return binary_operation<&Kernels::add>(kernels,
                                         {{0.1f, 3}, {0.2f, 100}, {4.0f, 90, -90.0f, 165.0f}}, {});
}

// One that a helper refuses, so that the error travels.
Plan::Operation failing(std::shared_ptr<std::atomic<bool>> fails) {
  return [fails = std::move(fails)](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 1,
                        [fails, n](const uint8_t* const* from, uint8_t* to, int threads) {
      parallel_ranges(threads, n, 64, [&](int64_t begin, int64_t end) {
        if (fails->load() && begin > 0) throw ArgumentError("as asked");
        std::memcpy(to + begin, from[0] + begin, static_cast<size_t>(end - begin));
      });
    });
  };
}

Plan::Operation move() {  // the two spatial dimensions, exchanged
  return [](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    std::swap(y.extent.size[2], y.extent.size[3]);
    std::swap(y.extent.stride[2], y.extent.stride[3]);
    return y;
  };
}

struct Drawn {
  Plan plan;
  std::shared_ptr<std::atomic<bool>> fails = std::make_shared<std::atomic<bool>>(false);

  Drawn(const Kernels& kernels, int64_t nodes) {
    std::vector<std::pair<int, bool>> values{
        {plan.input(1), false}};  // and whether the spatial dimensions are exchanged
    const auto add = [&](std::vector<int> inputs, Plan::Operation operation, bool exchanged) {
      values.push_back(
          {plan.add("node", std::move(inputs), Takes::integers, std::move(operation)), exchanged});
    };
    add({values[0].first}, failing(fails), false);
    for (int64_t i = 0; i < nodes; ++i) {
      const auto [x, exchanged] = values[static_cast<size_t>(
          draw(std::max<int64_t>(0, static_cast<int64_t>(values.size()) - 3),
               static_cast<int64_t>(values.size()) - 1))];
      switch (draw(0, 5)) {
        case 0:
          add({x}, layer(kernels, std::make_shared<const Layer>(kernels, draw(0, 1) ? 3 : 1)),
              exchanged);
          break;
        case 1:
          add({x}, max_pool(kernels), exchanged);
          break;
        case 2: {
          auto values_of = std::make_shared<std::vector<uint8_t>>(256);
          for (auto& each : *values_of) each = static_cast<uint8_t>(draw(0, 255));
          add({x}, table_operation(kernels, values_of), exchanged);
          break;
        }
        case 3:
          add({x}, move(), !exchanged);
          break;
        default: {
          int other = x;
          for (const auto& [value, turned] : values) {
            other = turned == exchanged && draw(0, 1) ? value : other;
          }
          add({x, other}, sum(kernels), exchanged);
        }
      }
    }
    plan.output(values.back().first);
    plan.output(values[values.size() / 2].first);
  }
};

struct Call {
  std::unique_ptr<Program> program;
  std::vector<uint8_t> x;
  std::vector<std::vector<uint8_t>> expected;

  Call(const Plan& plan, int64_t batch, int64_t height, int64_t width, uint32_t seed) {
    const Extent extent = contiguous_like({4, {batch, kChannels, height, width}, {}});
    x.resize(static_cast<size_t>(extent.numel()));
    for (auto& each : x) each = static_cast<uint8_t>((seed = seed * 1664525u + 1013904223u) >> 24);
    program = plan.bind({extent});
    expected = results(1);
  }

  std::vector<std::vector<uint8_t>> results(int threads) const {
    std::vector<std::vector<uint8_t>> found;
    std::vector<uint8_t*> to;
    for (const Place& place : program->outputs()) {
      found.emplace_back(static_cast<size_t>(place.extent.numel()));
    }
    for (auto& each : found) to.push_back(each.data());
    const uint8_t* from[] = {x.data()};
    int node = 0;
    std::vector<double> seconds(100);
    program->run(from, to.data(), threads, threads % 2 ? &seconds : nullptr, &node);
    return found;
  }
};

int run_plans(const Kernels& kernels, int plans) {
  long calls = 0;
  for (int i = 0; i < plans; ++i) {
    const Drawn drawn(kernels, draw(2, 10));
    std::vector<Call> all;
    for (int64_t j = 0; j < 3; ++j) {
      all.emplace_back(drawn.plan, draw(1, 3), draw(1, 40), draw(1, 40), static_cast<uint32_t>(j));
    }
    std::atomic<int> wrong{0}, errors{0};
    constexpr int kCallers = 4, kCalls = 6;
    const auto at_once = [&](const std::function<void(int)>& work) {
      std::vector<std::thread> callers;
      for (int c = 0; c < kCallers; ++c) callers.emplace_back([&, c] { work(c); });
      for (auto& caller : callers) caller.join();
    };
    at_once([&](int c) {
      for (int j = 0; j < kCalls; ++j) {
        const Call& call = all[static_cast<size_t>(c + j) % all.size()];
        wrong += call.results(1 + (c + j) % 4) != call.expected;
        const Call own(drawn.plan, 1, 2 + c, 3, 7);  // a plan is bound while it runs
        wrong += own.results(2) != own.expected;
      }
    });
    drawn.fails->store(true);
    at_once([&](int c) {
      try {
        all[static_cast<size_t>(c) % all.size()].results(3);
      } catch (const ArgumentError&) {
        ++errors;
      }
    });
    drawn.fails->store(false);
    for (const Call& call : all) wrong += call.results(3) != call.expected;
    CHECK(wrong == 0, "plan %d: %d results differ between threads", i, wrong.load());
    CHECK(errors <= kCallers, "plan %d", i);
    calls += kCallers * (kCalls * 2 + 1) + 3;
  }
  std::printf("%ld calls of %d plans\n", calls, plans);
  return check::done(kernels.name);
}

}  // namespace
}  // namespace qcore
