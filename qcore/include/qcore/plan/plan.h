// A compiled graph: nodes in order, bound once to the sizes of the inputs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/plan/memory.h"
#include "qcore/plan/program.h"

namespace qcore {

// What an operation takes; `elements`: of any kind, since it only says where they lie; `anything`:
// it looks for itself.
enum class Takes { integers, floats, indices, elements, anything };

inline void check_taken(const Place& x, Takes takes) {
  if (takes == Takes::anything) return;
  if (x.row_values != 0) {
    throw ArgumentError("it reads quantized rows, which only dynamic linears do");
  }
  if (takes == Takes::elements) return;
  const int item = takes == Takes::integers ? 1 : takes == Takes::floats ? 4 : 8;
  const char* const names[] = {"integers of 8 bits", "float32 numbers", "int64 indices"};
  if (x.item != item) {
    throw ArgumentError(std::string("it takes ") + names[static_cast<int>(takes)] +
                        ", and reads elements of " + std::to_string(x.item) + " bytes");
  }
}

// The nodes of a graph in order, each an operation that adds its steps to a program.
class Plan {
 public:
  using Operation = std::function<Place(Program&, const std::vector<Place>&)>;

  int input(int item) {
    items_.push_back(item);
    return values_++;
  }

  int add(std::string path, std::vector<int> inputs, Takes takes, Operation operation) {
    for (const int value : inputs) {
      if (!has(value)) {
        throw ArgumentError("node '" + path + "' reads value " + std::to_string(value) +
                            ", which is not there");
      }
    }
    if (inputs.empty()) throw ArgumentError("node '" + path + "' reads nothing");
    nodes_.push_back({std::move(path), std::move(inputs), takes, std::move(operation)});
    return values_++;
  }

  void output(int value) {
    if (!has(value)) {
      throw ArgumentError("output " + std::to_string(value) +
                          " is not a value of the plan, which has " + std::to_string(values_));
    }
    outputs_.push_back(value);
  }

  std::unique_ptr<Program> bind(const std::vector<Extent>& extents) const {
    if (extents.size() != items_.size()) {
      throw ArgumentError("the plan takes " + std::to_string(items_.size()) + " inputs");
    }
    auto program = std::make_unique<Program>();
    std::vector<Place> values;
    for (size_t i = 0; i < extents.size(); ++i) {
      values.push_back(program->input(extents[i], items_[i]));
    }
    for (size_t i = 0; i < nodes_.size(); ++i) {
      std::vector<Place> in;
      for (const int value : nodes_[i].inputs) in.push_back(values[static_cast<size_t>(value)]);
      program->begin(static_cast<int>(i));
      try {
        for (const Place& place : in) check_taken(place, nodes_[i].takes);
        values.push_back(nodes_[i].operation(*program, in));
      } catch (const ArgumentError& error) {
        throw ArgumentError(about(static_cast<int>(i)) + error.what());
      }
    }
    std::vector<Place> results;
    for (const int value : outputs_) {
      const Place& place = values[static_cast<size_t>(value)];
      if (place.item == 0 || place.row_values != 0) {
        throw ArgumentError("output " + std::to_string(value) +
                            " has no elements of its own: it serves dynamic linears alone");
      }
      results.push_back(place);
    }
    program->finish(results);
    return program;
  }

  std::string about(int node) const {
    return nodes_.empty() ? "" : "node '" + nodes_[static_cast<size_t>(node)].path + "': ";
  }
  size_t nodes() const { return nodes_.size(); }

 private:
  struct Node {
    std::string path;
    std::vector<int> inputs;
    Takes takes;
    Operation operation;
  };

  bool has(int value) const { return value >= 0 && value < values_; }

  int values_ = 0;
  std::vector<int> items_;
  std::vector<Node> nodes_;
  std::vector<int> outputs_;
};

}  // namespace qcore
