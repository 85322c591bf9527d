#include "qcore/python/tensor_view.h"  // where it was before there were folders
