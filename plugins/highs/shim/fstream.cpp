// File streams, which a libc++ built without a file system has only as templates.
#include <fstream>
namespace std {
inline namespace __2 {
template class basic_filebuf<char>;
template class basic_ifstream<char>;
template class basic_ofstream<char>;
template class basic_fstream<char>;
}  // namespace __2
}  // namespace std
