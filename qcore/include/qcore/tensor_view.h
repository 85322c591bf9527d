#include "qcore/python/classes.h"      // where it was before there were folders
#include "qcore/python/tensor_view.h"  // where it was before there were folders
