def render_data_docs(result, *, title, frame_summary=None):
    return "stub"
